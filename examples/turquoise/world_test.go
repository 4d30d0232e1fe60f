//go:build e2e

package turquoise_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"bluegreen/internal/gittest"
	"bluegreen/internal/simulator"
)

const (
	reservedIP = "203.0.113.10"
	token      = "dop_v1_of_the_simulator"
)

var (
	environments = []string{"blue", "green"}
	droplets     = map[string]int{"blue": 3164494, "green": 3164495}
)

func other(environment string) string {
	if environment == "blue" {
		return "green"
	}
	return "blue"
}

// A world is two servers with a database, a floating IP, and a developer. Green is
// live.
type world struct {
	testing.TB
	dir, bin string
	env      []string
	database string // as PHP's PDO names it
	together bool   // both environments are on one machine, and their programs the same
	sites    map[string]string
	logs     []string
	cloud    *simulator.Cloud
	outside  *simulator.Forwarder
	commits  map[string]string // of the releases
	guests   *guests
	releases int // tags that have moved the traffic
	steps    int // that were refused
}

// programs are built once for all tests.
var programs = sync.OnceValues(func() (dir string, err error) {
	if dir, err = os.MkdirTemp("", "bluegreen-programs-"); err != nil {
		return "", err
	}
	cmd := exec.Command("go", "build", "-o", dir, "bluegreen/hooks/...", "bluegreen/install/bluegreen")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return dir, fmt.Errorf("%v: %w\n%s", cmd, err, out)
	}
	return dir, nil
})

func TestMain(m *testing.M) {
	status := m.Run()
	if dir, _ := programs(); dir != "" {
		os.RemoveAll(dir)
	}
	os.Exit(status)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// needs skips where something is not installed.
func needs(t testing.TB, what, packages string) {
	t.Helper()
	paths, _ := filepath.Glob(what)
	if path, err := exec.LookPath(what); err == nil {
		paths = append(paths, path)
	}
	if len(paths) == 0 {
		t.Skipf("there is no %s: apt-get install %s", what, packages)
	}
}

func newWorld(t testing.TB) *world {
	t.Helper()
	needs(t, "/usr/bin/php", "php-cli php-sqlite3 php-pgsql") // as the programs' first lines say
	bin, err := programs()
	must(t, err)
	// Others than who runs the test look in here: a database that is not root's, and
	// a web server's children.
	dir, err := os.MkdirTemp("", "turquoise-")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	must(t, os.Chmod(dir, 0o755))
	w := &world{TB: t, dir: dir, bin: bin, sites: map[string]string{}, commits: map[string]string{}}
	for _, d := range []string{"home", "blue", "green", "dev"} {
		must(t, os.Mkdir(w.path(d), 0o755))
	}
	w.env = append(gittest.Environ(), "HOME="+w.path("home"), "TMPDIR="+w.path("home"), "BLUEGREEN_USER=ada")
	return w
}

func (w *world) path(name string) string { return filepath.Join(w.dir, name) }

func (w *world) write(name, text string) {
	w.Helper()
	must(w, os.WriteFile(w.path(name), []byte(text), 0o644))
}

func (w *world) read(name string) string {
	w.Helper()
	data, err := os.ReadFile(name)
	must(w, err)
	return string(data)
}

// until waits for what can be seen only by looking.
func (w *world) until(what string, is func() bool) {
	w.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); !is(); <-tick.C {
		if time.Now().After(deadline) {
			w.Fatalf("%s: not after %s", what, patience)
		}
	}
}

// command prepares a program that does not outlive the patience of a test.
func (w *world) command(dir string, argv ...string) *exec.Cmd {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	w.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir, cmd.Env, cmd.WaitDelay = dir, w.env, time.Second
	return cmd
}

// run returns the exit status of a program and all that it printed.
func (w *world) run(dir string, argv ...string) (int, string) {
	w.Helper()
	cmd := w.command(dir, argv...)
	out, err := cmd.CombinedOutput()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		w.Fatalf("%v: %v\n%s", cmd, err, out)
	}
	return cmd.ProcessState.ExitCode(), string(out)
}

// program is one of the example's in an operator's hands.
func (w *world) program(name string, args ...string) []string {
	w.Helper()
	path, err := filepath.Abs(name)
	must(w, err)
	return append([]string{"/usr/bin/env", "GUESTBOOK_INI=" + w.path("guestbook.ini"), path}, args...)
}

// begin sets up what does not depend on the servers' programs, and deploys v1 to both.
func (w *world) begin() {
	w.Helper()
	w.write("guestbook.ini", fmt.Sprintf("dsn = %q\npatience = %d\n", w.database, int(patience.Seconds())))
	w.commitReleases()
	if status, out := w.run(w.path("dev"), w.program("schema-migrate", "1")...); status != 0 {
		w.Fatalf("schema-migrate 1: status %d\n%s", status, out)
	}
	w.startCloud()
	for _, environment := range environments {
		w.repository(environment)
		w.pushed(environment, "-o", "live", w.head("v1"))
	}
}

// commitReleases makes the developer's repository: each release is a commit after the
// one before.
func (w *world) commitReleases() {
	w.Helper()
	dev := w.path("dev")
	gittest.Git(w, dev, "init", "-q", "-b", "master")
	must(w, os.CopyFS(dev, os.DirFS("guestbook")))
	for _, release := range []string{"v1", "turquoise", "v2", "v3"} {
		for _, name := range []string{"index.php", "schema.toml"} {
			w.write("dev/"+name, w.read(filepath.Join("releases", release, name)))
		}
		gittest.Git(w, dev, "add", "-A")
		gittest.Git(w, dev, "commit", "-q", "-m", release)
		w.commits[release] = strings.TrimSpace(gittest.Git(w, dev, "rev-parse", "HEAD"))
	}
}

func (w *world) startCloud() {
	w.Helper()
	w.cloud = simulator.New(simulator.Options{Token: token, Limit: 1 << 20})
	backends := map[int]string{}
	for _, environment := range environments {
		w.cloud.AddDroplet(droplets[environment], environment, "fra1")
		backends[droplets[environment]] = w.sites[environment]
	}
	w.cloud.AddIP(reservedIP, "fra1", droplets["green"])
	var err error
	w.outside, err = w.cloud.Forward(reservedIP, backends)
	must(w, err)
	w.Cleanup(w.outside.Close)
	must(w, os.WriteFile(w.path("token"), []byte(token+"\n"), 0o600))
}

// repository makes the bare repository of an environment.
func (w *world) repository(environment string) {
	w.Helper()
	repo := w.path(environment + ".git")
	gittest.Git(w, w.dir, "init", "-q", "-b", "master", "--bare", repo)
	for _, setting := range [][]string{{"receive.procReceiveRefs", "refs/heads/master"}, {"receive.procReceiveRefs", "refs/tags"}, {"receive.advertisePushOptions", "true"}} {
		gittest.Git(w, repo, "config", "--add", setting[0], setting[1])
	}
	must(w, os.RemoveAll(filepath.Join(repo, "hooks")))
	must(w, os.Mkdir(filepath.Join(repo, "hooks"), 0o755))
	for _, hook := range []string{"pre-receive", "proc-receive", "post-receive"} {
		must(w, os.Symlink(filepath.Join(w.bin, hook), filepath.Join(repo, "hooks", hook)))
	}
	w.write(environment+".git/bluegreen.toml", w.configuration(environment))
	gittest.Git(w, w.path("dev"), "remote", "add", environment, repo)
}

// configuration is the example's, as an operator would fill it in, and with shorter
// times.
func (w *world) configuration(environment string) string {
	w.Helper()
	api, stop, err := w.cloud.Start()
	must(w, err)
	w.Cleanup(stop)
	metadata, stop, err := simulator.Serve(w.cloud.Metadata(droplets[environment]))
	must(w, err)
	w.Cleanup(stop)
	// On another machine another lock of bluegreen's has the same name. Here, on one,
	// it has another name.
	machine := "SERVER=" + environment
	if w.together {
		machine = "SERVER=both"
	}
	quoted := func(argv []string) string {
		data, err := json.Marshal(slices.Insert(argv, 1, machine))
		must(w, err)
		return string(data)
	}
	text := w.read("bluegreen.toml")
	places := []string{
		`environment = "blue"`, fmt.Sprintf("environment = %q", environment),
		`"/var/www/html"`, fmt.Sprintf("%q", w.path(environment)),
		"http://127.0.0.1/", "http://" + w.sites[environment] + "/",
		"http://203.0.113.10/", "http://" + w.outside.Addr() + "/",
		`token_file = "/etc/bluegreen/token"`, fmt.Sprintf("token_file = %q\napi_url = %q\nmetadata_url = %q", w.path("token"), api, metadata),
		`green = "http://10.132.0.3/`, fmt.Sprintf(`%s = "http://%s/`, other(environment), w.sites[other(environment)]),
		`["/usr/local/bin/schema-version"]`, quoted(w.program("schema-version")),
		`["/usr/local/bin/schema-migrate", "{version}"]`, quoted(w.program("schema-migrate", "{version}")),
		`within = "20s"`, "interval = \"100ms\"\nwithin = \"5s\"", // as long as status asks while a migration is in the way
		`within = "10s"`, "interval = \"100ms\"\nwithin = \"1500ms\"", // the other droplet is asked so long, too, at an address that is not there
	}
	for pair := range slices.Chunk(places, 2) {
		if !strings.Contains(text, pair[0]) {
			w.Fatalf("bluegreen.toml has no %q", pair[0])
		}
	}
	return strings.NewReplacer(places...).Replace(text)
}

// head is what is pushed to deploy a release.
func (w *world) head(release string) string { return w.commits[release] + ":refs/heads/master" }

// tag makes a tag of a release, or has it moved there.
func (w *world) tag(name, release string) string {
	w.Helper()
	gittest.Git(w, w.path("dev"), "tag", "-f", name, w.commits[release])
	return name
}

func (w *world) push(environment string, args ...string) (int, string) {
	w.Helper()
	return w.run(w.path("dev"), append([]string{"git", "push", environment}, args...)...)
}

// lines are those of the hooks.
func lines(out string) (lines []string) {
	for line := range strings.Lines(strings.ReplaceAll(out, "\r", "\n")) {
		if text, found := strings.CutPrefix(line, "remote: "); found && strings.TrimSpace(text) != "" {
			lines = append(lines, strings.TrimSpace(text))
		}
	}
	return lines
}

// pushed pushes what must succeed. An argument with spaces is what its last line must
// have.
func (w *world) pushed(environment string, args ...string) {
	w.Helper()
	want := "success: "
	if last := args[len(args)-1]; strings.Contains(last, " ") {
		want, args = last, args[:len(args)-1]
	}
	status, out := w.push(environment, args...)
	said := lines(out)
	if status != 0 || len(said) == 0 || !strings.HasPrefix(said[len(said)-1], "success: ") || !strings.Contains(said[len(said)-1], want) {
		w.Fatalf("git push %s %s: status %d, want %q\n%s", environment, strings.Join(args, " "), status, want, out)
	}
}

// refused pushes what must be refused, with a reason and a hint, before anything has
// changed.
func (w *world) refused(reason, hint, environment string, args ...string) {
	w.Helper()
	before := w.state()
	w.failed(reason, hint, environment, args...)
	if after := w.state(); after != before {
		w.Errorf("git push %s %s was refused, and there is\n%s\nwhere there was\n%s", environment, strings.Join(args, " "), after, before)
	}
}

// failed pushes what must not succeed, with a reason and a hint.
func (w *world) failed(reason, hint, environment string, args ...string) {
	w.Helper()
	w.steps++
	status, out := w.push(environment, args...)
	said := lines(out)
	if status != 1 || len(said) == 0 || !strings.HasPrefix(said[len(said)-1], "error: ") || !strings.Contains(said[len(said)-1], reason) {
		w.Errorf("git push %s %s: status %d, want %q\n%s", environment, strings.Join(args, " "), status, reason, out)
	}
	if !slices.ContainsFunc(said, func(line string) bool { return strings.HasPrefix(line, "hint: ") && strings.Contains(line, hint) }) {
		w.Errorf("git push %s %s has no hint with %q\n%s", environment, strings.Join(args, " "), hint, out)
	}
}

// state is all that a step that is refused leaves alone.
func (w *world) state() string {
	w.Helper()
	text := fmt.Sprintf("the database at %d, the traffic at %d\n", w.version(), w.cloud.Owner(reservedIP))
	for _, environment := range environments {
		marker := w.read(filepath.Join(w.path(environment), ".well-known/release.json"))
		page := w.read(filepath.Join(w.path(environment), "index.php"))
		text += fmt.Sprintf("%s: %s\n%s%s\n", environment, w.refs(environment), marker, strings.SplitN(page, "\n", 4)[2])
	}
	return text
}

func (w *world) refs(environment string) string {
	w.Helper()
	return gittest.Git(w, w.path(environment+".git"), "for-each-ref")
}

// version asks the database.
func (w *world) version() int {
	w.Helper()
	status, out := w.run(w.dir, w.program("schema-version")...)
	version, err := strconv.Atoi(strings.TrimSpace(out))
	if status != 0 || err != nil {
		w.Fatalf("schema-version: status %d\n%s", status, out)
	}
	return version
}

// is checks who is live, and at which version the database is.
func (w *world) is(live string, version int) {
	w.Helper()
	if got := w.cloud.Owner(reservedIP); got != droplets[live] {
		w.Errorf("the IP is with %d, want %s", got, live)
	}
	if got := w.version(); got != version {
		w.Errorf("the database is at %d, want %d", got, version)
	}
}

// A push is one that is under way.
type push struct {
	*world
	cmd  *exec.Cmd
	mu   sync.Mutex
	out  bytes.Buffer
	done chan error
}

func (p *push) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.Write(b)
}

func (p *push) said() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.String()
}

func (w *world) start(environment string, args ...string) *push {
	w.Helper()
	p := &push{world: w, cmd: w.command(w.path("dev"), append([]string{"git", "push", environment}, args...)...), done: make(chan error, 1)}
	p.cmd.Stdout, p.cmd.Stderr = p, p
	must(w, p.cmd.Start())
	go func() { p.done <- p.cmd.Wait() }()
	return p
}

// says tells whether the push has said something. One that has ended will not.
func (p *push) says(text string) func() bool {
	return func() bool {
		select {
		case err := <-p.done:
			p.Fatalf("%v has ended: %v\n%s", p.cmd, err, p.said())
		default:
		}
		return strings.Contains(p.said(), text)
	}
}

func (p *push) succeeds(want string) {
	p.Helper()
	if err := <-p.done; err != nil || !strings.Contains(p.said(), want) {
		p.Errorf("%v: %v, want %q\n%s", p.cmd, err, want, p.said())
	}
}

func (p *push) fails(want string) {
	p.Helper()
	if err := <-p.done; err == nil || !strings.Contains(p.said(), want) {
		p.Errorf("%v: %v, want %q\n%s", p.cmd, err, want, p.said())
	}
}

// slowVisit is a request to an environment that has begun and does not end before it
// is told to: a migration waits for it.
func (w *world) slowVisit(environment string) (end func()) {
	w.Helper()
	cmd := w.command(w.path(environment), "/usr/bin/php", "-r",
		`const RELEASE = 'slow'; require 'guestbook.php'; [$db] = database(true); echo "here\n"; fgets(STDIN);`)
	cmd.Env = append(slices.Clone(cmd.Env), "GUESTBOOK_INI="+w.path("guestbook.ini"))
	in, err := cmd.StdinPipe()
	must(w, err)
	out, err := cmd.StdoutPipe()
	must(w, err)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	must(w, cmd.Start())
	if n, err := out.Read(make([]byte, 5)); n != 5 {
		w.Fatalf("a slow visit: %v\n%s", err, &stderr)
	}
	return func() {
		w.Helper()
		in.Close()
		if err := cmd.Wait(); err != nil {
			w.Errorf("a slow visit: %v\n%s", err, &stderr)
		}
	}
}

// decode reads a file of an environment's state.
func (w *world) decode(environment, name string, into any) {
	w.Helper()
	must(w, json.NewDecoder(strings.NewReader(w.read(w.path(environment+".git/bluegreen/"+name)))).Decode(into))
}

// holder is the hook that is at work.
func (w *world) holder(environment string) int {
	w.Helper()
	var holder struct{ PID int }
	w.decode(environment, "lock", &holder)
	return holder.PID
}

// migration is the program that migrates, the leader of a process group of its own.
func (w *world) migration(environment string) int {
	w.Helper()
	var migration struct{ Process int }
	w.decode(environment, "migration.json", &migration)
	pgid, err := syscall.Getpgid(migration.Process)
	if err != nil || pgid != migration.Process {
		w.Fatalf("process %d of the migration: group %d, %v", migration.Process, pgid, err)
	}
	return migration.Process
}

// bluegreen runs the operator's command for an environment.
func (w *world) bluegreen(environment string, args ...string) (int, string) {
	w.Helper()
	return w.run(w.dir, append([]string{filepath.Join(w.bin, "bluegreen"), "--repo", w.path(environment + ".git")}, args...)...)
}

type report struct {
	Schema     *int
	Unfinished *struct {
		Event string
	}
}

func (w *world) status(environment string) (r report) {
	w.Helper()
	out, err := w.command(w.dir, filepath.Join(w.bin, "bluegreen"), "--repo", w.path(environment+".git"), "status", "--json").Output()
	must(w, err)
	must(w, json.Unmarshal(out, &r))
	return r
}

// rows are all entries, message and name, of the database at 3.
func (w *world) rows() map[string]string {
	w.Helper()
	cmd := w.command(w.path("blue"), "/usr/bin/php", "-r", `const RELEASE = 'end'; require 'guestbook.php'; [$db] = database(false);
		echo json_encode($db->query("SELECT message, trim(first || ' ' || last) FROM entry")->fetchAll(PDO::FETCH_NUM));`)
	cmd.Env = append(slices.Clone(cmd.Env), "GUESTBOOK_INI="+w.path("guestbook.ini"))
	out, err := cmd.Output()
	must(w, err)
	var pairs [][2]string
	must(w, json.Unmarshal(out, &pairs))
	rows := map[string]string{}
	for _, pair := range pairs {
		if _, twice := rows[pair[0]]; twice {
			w.Errorf("%q is in the database twice", pair[0])
		}
		rows[pair[0]] = pair[1]
	}
	return rows
}
