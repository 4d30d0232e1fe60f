package doctor

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"bluegreen/internal/deploy"
	"bluegreen/internal/environment"
	"bluegreen/internal/git"
	"bluegreen/internal/gittest"
	"bluegreen/internal/install"
	"bluegreen/internal/simulator"
)

// said names the variable with what the hooks say of themselves, where that is
// not our version.
const said = "DOCTOR_TEST_SAYS"

// hookVariable says where the program is that stands for the hooks: one that
// starts in no time, hundreds of times.
const hookVariable = "DOCTOR_TEST_HOOK"

func TestMain(m *testing.M) {
	if api := os.Getenv(brokerVariable); api != "" {
		os.Exit(answer(api))
	}
	syscall.Umask(0o022) // what the group may write is a finding
	os.Exit(withHook(m.Run))
}

func withHook(run func() int) int {
	dir, err := os.MkdirTemp("", "bluegreen-doctor-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	program := filepath.Join(dir, "hook")
	build := exec.Command("go", "build", "-o", program, "./testdata/hook")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "go build: %v: %s", err, out)
		return 1
	}
	os.Setenv(hookVariable, program)
	return run()
}

const (
	reservedIP    = "203.0.113.10"
	blue, green   = 3164494, 3164495
	canary        = "dop_v1_canary0123456789abcdef"
	configuration = `environment = "blue"
[deploy]
directory = "${WWW}"
marker = "release.json"
[[health]]
name = "home page"
url = "${SITE}/"
body = "hello"
interval = "50ms"
within = "${WITHIN}"
[[health]]
name = "production"
at = "promoted"
url = "${SITE}/release.json"
body = '"commit":"{commit}"'
interval = "50ms"
within = "${WITHIN}"
[[command]]
at = "rolled-back"
run = ["sudo", "-n", "/bin/systemctl", "reload", "apache2"]
[promotion]
ip = "203.0.113.10"
droplets = { blue = 3164494, green = 3164495 }
token_file = "${TOKEN}"
signers = "${SIGNERS}"
api_url = "${API}"
metadata_url = "${METADATA}"
`
)

// A patient is a server in order, to be broken.
type patient struct {
	testing.TB
	*simulator.Cloud
	Options
	dir, repo, www, root, home, bin, token, signers string

	site   http.Handler // what the site answers; nil serves the web root
	commit string
	scopes []string
}

// newPatient makes a server that has nothing wrong.
func newPatient(t testing.TB, scopes ...string) *patient {
	t.Helper()
	dir := gittest.Dir(t)
	p := &patient{TB: t, dir: dir, repo: gittest.Bare(t), scopes: scopes}
	for path, name := range map[*string]string{&p.www: "www", &p.root: "root", &p.home: "home", &p.bin: "bin"} {
		*path = filepath.Join(dir, name)
		p.must(os.Mkdir(*path, 0o755))
	}
	p.token, p.signers = filepath.Join(dir, "token"), filepath.Join(dir, "signers")
	p.write(p.token, canary+"\n", 0o600)
	p.write(p.signers, "# those who release\nann@example.com namespaces=\"git,file\" "+publicKey()+"\n", 0o644)
	p.write(filepath.Join(p.bin, "sudo"), "#!/bin/sh\n[ \"$*\" = '-n -l -u root -- /bin/systemctl reload apache2' ]\n", 0o755)
	p.write(filepath.Join(p.bin, "ssh-keygen"), "#!/bin/sh\n", 0o755)
	p.machine()
	p.hooks()
	p.cloud()
	p.Options = Options{Repo: p.repo, Host: p.host(), Recover: p.recover}
	p.configure(nil)
	commits := gittest.Commits(t, p.repo, gittest.Files("index.html", "hello", "about.html", "us"))
	p.commit = commits[0]
	p.deploy(p.commit)
	p.run("chmod", "-R", "go-w", p.repo)
	return p
}

func (p *patient) must(err error) {
	p.Helper()
	if err != nil {
		p.Fatal(err)
	}
}

func (p *patient) write(path, text string, mode os.FileMode) {
	p.Helper()
	p.must(os.MkdirAll(filepath.Dir(path), 0o755))
	p.must(os.WriteFile(path, []byte(text), mode))
	p.must(os.Chmod(path, mode))
}

func (p *patient) run(argv ...string) {
	p.Helper()
	if argv[0] == "git" {
		gittest.Git(p, p.repo, argv[1:]...)
		return
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	if out, err := cmd.CombinedOutput(); err != nil {
		p.Fatalf("%q: %v: %s", argv, err, out)
	}
}

func publicKey() string {
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)).Public().(ed25519.PublicKey)
	var b bytes.Buffer
	for _, part := range [][]byte{[]byte("ssh-ed25519"), key} {
		binary.Write(&b, binary.BigEndian, uint32(len(part)))
		b.Write(part)
	}
	return "ssh-ed25519 " + base64.StdEncoding.EncodeToString(b.Bytes())
}

// machine writes the system's files.
func (p *patient) machine() {
	p.Helper()
	p.mounts("")
	unit := "bluegreen-recover-repo.git.service"
	units := filepath.Join(p.root, "etc/systemd/system")
	p.write(filepath.Join(units, unit), "[Service]\nExecStart=/usr/local/bin/bluegreen --repo "+p.repo+" recover\n", 0o644)
	p.must(os.MkdirAll(filepath.Join(units, "multi-user.target.wants"), 0o755))
	p.must(os.Symlink(filepath.Join("..", unit), filepath.Join(units, "multi-user.target.wants", unit)))
	p.write(filepath.Join(units, "nginx.service"), "[Service]\nPrivateTmp=false\n", 0o644)
	p.write(filepath.Join(p.home, ".ssh/authorized_keys"),
		"# developers\nrestrict,command=\"/usr/local/bin/bluegreen --repo "+p.repo+" ssh ann\" "+publicKey()+" ann@laptop\n", 0o644)
}

// mounts writes the kernel's list, with more lines.
func (p *patient) mounts(more string) {
	p.Helper()
	p.write(filepath.Join(p.root, "proc/self/mountinfo"), "1 0 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"+more, 0o644)
}

func (p *patient) hooks() {
	p.Helper()
	p.must(os.RemoveAll(filepath.Join(p.repo, "hooks")))
	p.must(os.Mkdir(filepath.Join(p.repo, "hooks"), 0o755))
	for _, name := range install.Hooks() {
		p.must(os.Symlink(os.Getenv(hookVariable), filepath.Join(p.repo, "hooks", name)))
	}
	config, err := os.OpenFile(filepath.Join(p.repo, "config"), os.O_WRONLY|os.O_APPEND, 0)
	p.must(err)
	_, err = config.WriteString("[receive]\n\tprocReceiveRefs = refs/heads/master\n\tprocReceiveRefs = refs/tags\n" +
		"\tadvertisePushOptions = true\n\tfsckObjects = true\n\tmaxInputSize = 2g\n[core]\n\tfsync = all\n")
	p.must(errors.Join(err, config.Close()))
}

// ownHook makes a hook a file of its own, with a program's bytes.
func (p *patient) ownHook(name string, mode os.FileMode) string {
	p.Helper()
	data, err := os.ReadFile(os.Getenv(hookVariable))
	p.must(err)
	path := filepath.Join(p.repo, "hooks", name)
	p.must(os.Remove(path))
	p.write(path, string(data), mode)
	return path
}

// cloud starts the API; green has the IP.
func (p *patient) cloud() {
	p.Helper()
	p.Cloud = simulator.New(simulator.Options{Token: canary, Limit: 1 << 20, Scopes: p.scopes})
	p.AddDroplet(blue, "blue", "fra1")
	p.AddDroplet(green, "green", "fra1")
	p.AddIP(reservedIP, "fra1", green)
}

// host is a machine with room, whose hooks are root's.
func (p *patient) host() Host {
	path := p.bin + ":" + os.Getenv("PATH")
	h := ThisHost(append(gittest.Environ(), "GORACE=atexit_sleep_ms=0")) // else each hook takes a second more
	for i, kv := range h.Environ {
		if strings.HasPrefix(kv, "PATH=") {
			h.Environ[i] = "PATH=" + path
		}
	}
	h.Root = p.root
	h.Statfs = func(string) (Space, error) {
		return Space{Size: 100 << 30, Free: 50 << 30, Files: 10_000_000, Spare: 9_000_000}, nil
	}
	h.Account = func(int) (Account, error) { return Account{Name: "deploy", Home: p.home, Shell: "/bin/sh"}, nil }
	h.Writable = func(path string) bool { return path == p.www }
	return h
}

// configure writes the configuration, with some of its variables set to
// something else.
func (p *patient) configure(other map[string]string) {
	p.Helper()
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if p.site != nil {
			p.site.ServeHTTP(w, r)
			return
		}
		http.FileServer(http.Dir(p.www)).ServeHTTP(w, r)
	}))
	p.Cleanup(site.Close)
	api, stop, err := p.Start()
	p.must(err)
	p.Cleanup(stop)
	metadata, stop, err := simulator.Serve(p.Metadata(blue))
	p.must(err)
	p.Cleanup(stop)
	values := map[string]string{"WWW": p.www, "SITE": site.URL, "TOKEN": p.token, "SIGNERS": p.signers, "API": api, "METADATA": metadata, "WITHIN": "1m"}
	maps.Copy(values, other)
	p.write(filepath.Join(p.repo, "bluegreen.toml"), os.Expand(configuration, func(name string) string { return values[name] }), 0o644)
}

// reconfigure replaces a part of the configuration.
func (p *patient) reconfigure(old, new string) {
	p.Helper()
	path := filepath.Join(p.repo, "bluegreen.toml")
	data, err := os.ReadFile(path)
	p.must(err)
	if !strings.Contains(string(data), old) {
		p.Fatalf("the configuration has no %q", old)
	}
	p.write(path, strings.Replace(string(data), old, new, 1), 0o644)
}

func (p *patient) open() *environment.Environment {
	p.Helper()
	e, err := environment.Open(p.repo, p.Host.Environ, func(deploy.Notice) {})
	p.must(err)
	return e
}

func (p *patient) deploy(commit string) {
	p.Helper()
	oid, err := git.ParseOID(commit)
	p.must(err)
	session, err := p.open().Begin(p.Context(), "ann", time.Minute)
	p.must(err)
	defer session.End()
	_, err = session.Deploy(p.Context(), deploy.Request{Ref: "refs/heads/master", Commit: oid, RefMoved: true, Pusher: "ann"})
	p.must(err)
}

func (p *patient) recover(ctx context.Context) error {
	session, err := p.open().Begin(ctx, "ann", time.Minute)
	if err == nil {
		session.End()
	}
	return err
}

// examine examines, and holds the report to what is true of any.
func (p *patient) examine() *Report {
	p.Helper()
	r, err := Examine(p.Context(), p.Options)
	p.must(err)
	text, err := json.Marshal(r)
	p.must(err)
	if strings.Contains(string(text), canary) {
		p.Errorf("the token is shown: %s", text)
	}
	for _, f := range r.Findings {
		if f.Check == "" || f.Text == "" || strings.ContainsAny(f.Text+f.Fix, "\n\r") || (f.Level == OK) != (f.Fix == "") || f.Fixable != (f.mend != nil) {
			p.Errorf("not a finding: %+v", f)
		}
	}
	return r
}

// amiss are the findings that are not ok, but for the advice to have a broker.
func (r *Report) amiss() (all []Finding) {
	for _, f := range r.Findings {
		if f.Level != OK && !strings.Contains(f.Text, " can read the API's token") {
			all = append(all, f)
		}
	}
	return all
}

func show(findings []Finding) string {
	var b strings.Builder
	for _, f := range findings {
		fmt.Fprintf(&b, "\n[%s] %s: %s\n    mend: %s", f.Check, f.Level, f.Text, f.Fix)
	}
	return b.String()
}

// TestInOrder finds nothing wrong with a server that is in order, twice, and
// leaves every file of it alone.
func TestInOrder(t *testing.T) {
	t.Parallel()
	p := newPatient(t)
	before := []gittest.Snapshot{gittest.Snap(t, p.repo, true), gittest.Snap(t, p.dir, true)}
	moves := len(p.Moves())
	for range 2 {
		r := p.examine()
		if wrong := r.amiss(); len(wrong) > 0 {
			t.Fatalf("found:%s", show(wrong))
		}
		if r.Environment != "blue" || r.Repository != p.repo || r.Misconfigured || r.Count(OK) < 15 {
			t.Errorf("%+v", r)
		}
		if mended := r.Mend(t.Context()); len(mended) > 0 {
			t.Errorf("mended %+v", mended)
		}
	}
	for i, dir := range []string{p.repo, p.dir} {
		if after := gittest.Snap(t, dir, true); !maps.Equal(before[i], after) {
			t.Errorf("%s was changed:\n%v\nbefore\n%v", dir, after, before[i])
		}
	}
	for _, call := range p.Calls() {
		if call.Method != http.MethodGet && call.Method != http.MethodHead {
			t.Errorf("asked %s %s", call.Method, call.Path)
		}
	}
	if len(p.Moves()) != moves {
		t.Error("the IP has moved")
	}
}

// answering is a site that answers everything in one way.
func answering(status int, body string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		io.WriteString(w, body)
	})
}
