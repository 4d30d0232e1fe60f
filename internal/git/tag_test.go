package git

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"bluegreen/internal/gittest"
)

// TestTag reads the tags that forKinds makes.
func TestTag(t *testing.T) {
	t.Parallel()
	forKinds(t, func(t *testing.T, r *Repository) {
		objects := r.Objects(t.Context())
		defer objects.Close()
		for revision, want := range map[string]Tag{
			"one": {Name: "one", Target: name(t, r, "master"), Kind: "commit"},
			"two": {Name: "two", Target: name(t, r, "one"), Kind: "tag"},
		} {
			if tag, err := objects.Tag(name(t, r, revision)); err != nil || tag == nil || *tag != want {
				t.Errorf("%s: %+v, %v; want %+v", revision, tag, err, want)
			}
		}
		for _, revision := range []string{"master", "light", "tree", "master:a", "master:large"} {
			if tag, err := objects.Tag(name(t, r, revision)); tag != nil || err != nil {
				t.Errorf("%s: %+v, %v", revision, tag, err)
			}
		}
		if tag, err := objects.Tag(missing(r)); tag != nil || !errors.Is(err, ErrNoObject) {
			t.Errorf("a missing object: %+v, %v", tag, err)
		}
	})
}

const (
	anyTarget = "1111111111111111111111111111111111111111"
	tagHeader = "object " + anyTarget + "\ntype commit\ntag v1\ntagger T <t@example.com> 1700000000 +0000\n"
	anySSH    = "-----BEGIN SSH SIGNATURE-----\nU1NI\n-----END SSH SIGNATURE-----\n"
	anyPGP    = "-----BEGIN PGP SIGNATURE-----\n\niQ==\n-----END PGP SIGNATURE-----\n"
)

func TestMalformedTags(t *testing.T) {
	t.Parallel()
	repo := gittest.Bare(t)
	r, err := Open(repo, gittest.Environ())
	if err != nil {
		t.Fatal(err)
	}
	objects := r.Objects(t.Context())
	defer objects.Close()
	change := func(old, new string) string {
		if !strings.Contains(tagHeader, old) {
			t.Fatalf("%q is not in the header", old)
		}
		return strings.Replace(tagHeader, old, new, 1) + "\nmessage\n"
	}
	for data, want := range map[string]string{
		"":                                            `"" where its "object" should be`,
		"\n\n":                                        `"" where its "object" should be`,
		"type commit\n\n":                             `"type commit" where its "object" should be`,
		"object " + anyTarget:                         `it has no "type"`,
		change("object "+anyTarget+"\n", ""):          `"type commit" where its "object" should be`,
		change("object ", "object  "):                 `" 1111111111111111111111111111111111111111" is not an object name`,
		change("1111\n", "111\n"):                     `"111111111111111111111111111111111111111" is not an object name`,
		change(anyTarget, noTarget):                   `"0000000000000000000000000000000000000000" is no object's name here`,
		change("1111\n", "1111"+x24+"\n"):             `is no object's name here`,
		change("1111\n", "111A\n"):                    `is not an object name`,
		change("type commit\n", ""):                   `"tag v1" where its "type" should be`,
		change("commit", "commits"):                   `"commits" is no type of object`,
		change("commit", ""):                          `"type " where its "type" should be`,
		change("tag v1\n", ""):                        `where its "tag" should be`,
		change("v1", ""):                              `"tag " where its "tag" should be`,
		change("v1", "v1\x1b[31m"):                    `"tag v1\x1b[31m" where its "tag" should be`,
		change("v1", "v1\x00"):                        `"tag v1\x00" where its "tag" should be`,
		change("v1", strings.Repeat("v", 200)+"\x00"): `"tag ` + strings.Repeat("v", 96) + `" where its "tag" should be`,
		change("tagger T <t@example.com> 1700000000 +0000\n", ""):       `it has no "tagger"`,
		change("tagger T <t@example.com> 1700000000 +0000\n", "more\n"): `"more" where its "tagger" should be`,
		tagHeader + "object " + anyTarget + "\n\n":                      `"object 1111111111111111111111111111111111111111" in its header`,
		tagHeader + "gpgsig x\n\nmessage\n":                             `"gpgsig x" in its header`,
		change("type commit\n", "type commit\ntype tree\n"):             `"type tree" where its "tag" should be`,
		tagHeader + "\n" + strings.Repeat("x", maxTag):                  `more than the 1048576 that are read`,
	} {
		tag, err := objects.Tag(parse(t, gittest.Object(t, repo, "tag", data)))
		if tag != nil || err == nil || !strings.Contains(err.Error(), want) || strings.ContainsFunc(err.Error(), control) {
			t.Errorf("%.300q: %+v, %v; want %s", data, tag, err, want)
		}
	}
}

var (
	noTarget = strings.Repeat("0", 40)
	x24      = strings.Repeat("1", 24)
)

func TestSigned(t *testing.T) {
	t.Parallel()
	repo := gittest.Bare(t)
	r, err := Open(repo, gittest.Environ())
	if err != nil {
		t.Fatal(err)
	}
	objects := r.Objects(t.Context())
	defer objects.Close()
	for message, want := range map[string]bool{
		"":                                     false,
		"\n":                                   false,
		"\nmessage\n":                          false,
		"\nmessage\n" + anySSH:                 true,
		"\n" + anySSH:                          true,
		"\nmessage\n" + anySSH + "\n":          true,
		"\nmessage\n" + anySSH[:len(anySSH)-1]: true,
		"\nmessage\n" + anySSH + "more\n":      false,
		"\nmessage\n" + anyPGP:                 false,
		"\nmessage\n" + anySSH + anyPGP:        false,
		"\nmessage\n" + anyPGP + anySSH:        true,
		"\nmessage\n -----BEGIN SSH SIGNATURE-----\n" + anySSH[30:]: false,
		"\nmessage" + anySSH:                                             false,
		"\nmessage\n-----BEGIN SSH SIGNATURE-----\n":                     false,
		"\nmessage\n-----END SSH SIGNATURE-----\n":                       false,
		"\nmessage\n-----BEGIN SSH SIGNATURE----- x\n" + anySSH[30:]:     false,
		"\nmessage\n-----BEGIN SSH SIGNATURE----- x\n" + anySSH:          true,
		"\n-----BEGIN SIGNED MESSAGE-----\n-----END SIGNED MESSAGE-----": false,
	} {
		tag, err := objects.Tag(parse(t, gittest.Object(t, repo, "tag", tagHeader+message)))
		if err != nil || tag == nil || tag.Signed != want || tag.Name != "v1" || tag.Target.String() != anyTarget {
			t.Errorf("%q: %+v, %v", message, tag, err)
		}
	}
}

// TestReplacedTag: what stands in a tag's place says nothing about the tag.
func TestReplacedTag(t *testing.T) {
	t.Parallel()
	repo := gittest.Bare(t)
	real, other := gittest.Object(t, repo, "tag", tagHeader+"\none\n"), gittest.Object(t, repo, "tag", tagHeader+"\ntwo\n")
	gittest.Git(t, repo, "replace", "-f", real, other)
	r, err := Open(repo, gittest.Environ())
	if err != nil {
		t.Fatal(err)
	}
	objects := r.Objects(t.Context())
	defer objects.Close()
	if tag, err := objects.Tag(parse(t, real)); tag != nil || err == nil || !strings.HasSuffix(err.Error(), "another object is in its place") {
		t.Errorf("%+v, %v", tag, err)
	}
	if tag, err := objects.Tag(parse(t, other)); tag == nil || err != nil {
		t.Errorf("the other: %+v, %v", tag, err)
	}
}

// A notary is a repository with a commit, and keys.
type notary struct {
	*Repository
	dir string // of the keys and of files of signers
}

func newNotary(t *testing.T, format string) *notary {
	t.Helper()
	if _, err := exec.LookPath("ssh-keygen"); err != nil {
		t.Skip("ssh-keygen is not installed")
	}
	repo := gittest.Bare(t, "--object-format="+format)
	gittest.Commits(t, repo, gittest.Files("a", "a\n"))
	r, err := Open(repo, gittest.Environ())
	if err != nil {
		t.Fatal(err)
	}
	if version, err := r.Version(t.Context()); err != nil {
		t.Fatal(err)
	} else if major, minor := 0, 0; scan(version, &major, &minor) && (major < 2 || major == 2 && minor < 34) {
		t.Skipf("git %s does not know SSH signatures", version)
	}
	return &notary{r, gittest.Dir(t)}
}

func scan(version string, major, minor *int) bool {
	_, err := fmt.Sscanf(version, "%d.%d", major, minor)
	return err == nil
}

// key makes a key and returns its public half.
func (n *notary) key(t *testing.T, name string) string {
	t.Helper()
	path := filepath.Join(n.dir, name)
	cmd := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", path)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	public, err := os.ReadFile(path + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	return string(public)
}

// signers writes a file of signers.
func (n *notary) signers(t *testing.T, name string, lines ...string) string {
	t.Helper()
	path := filepath.Join(n.dir, name)
	if err := os.WriteFile(path, []byte(strings.Join(lines, "")), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// sign makes a tag that is signed with a key.
func (n *notary) sign(t *testing.T, key, tag string) OID {
	t.Helper()
	gittest.Git(t, n.Dir, "-c", "gpg.format=ssh", "-c", "user.signingKey="+filepath.Join(n.dir, key), "tag", "-s", "-m", "message", tag, "master")
	return name(t, n.Repository, "refs/tags/"+tag)
}

// object writes a tag of any content.
func (n *notary) object(t *testing.T, data string) OID {
	t.Helper()
	return parse(t, gittest.Object(t, n.Dir, "tag", data))
}

// refuses fails unless the tag is not accepted, for a reason of one line.
func (n *notary) refuses(t *testing.T, oid OID, signers, want string) {
	t.Helper()
	signer, err := n.VerifyTag(t.Context(), oid, signers)
	if signer != "" || err == nil || !strings.Contains(err.Error(), want) || strings.ContainsFunc(err.Error(), control) {
		t.Errorf("signer %q, error %v; want %s", signer, err, want)
	}
}

func TestVerifyTag(t *testing.T) {
	t.Parallel()
	for _, format := range []string{"sha1", "sha256"} {
		n := newNotary(t, format)
		ada, eve := n.key(t, "ada"), n.key(t, "eve")
		good, bad := n.sign(t, "ada", "release-1"), n.sign(t, "eve", "release-2")
		for name, line := range map[string]string{
			"ada@example.com":      "ada@example.com " + ada,
			"for git":              "ada@example.com namespaces=\"git\" " + ada,
			"for git among others": "ada@example.com namespaces=\"file,git\" " + ada,
			"with spaces":          "ada@example.com " + ada,
			"%(prefix)\nodd=é":     "ada@example.com " + ada,
			"after others":         "# signers\neve@example.com namespaces=\"file\" " + eve + "nonsense\nada@example.com " + ada,
		} {
			signers := n.signers(t, name, line)
			if signer, err := n.VerifyTag(t.Context(), good, signers); err != nil || signer != "ada@example.com" {
				t.Errorf("%s: %q, %v", name, signer, err)
			}
			if _, err := n.VerifyTag(t.Context(), bad, signers); err == nil {
				t.Errorf("%s: eve may sign", name)
			}
		}
		signers := n.signers(t, "two", "ada@example.com "+ada, "eve with a name "+eve)
		n.refuses(t, bad, signers, "signed by somebody else")
		signers = n.signers(t, "odd", `"eve with a name" `+eve)
		if signer, err := n.VerifyTag(t.Context(), bad, signers); err != nil || signer != "eve with a name" {
			t.Errorf("%q, %v", signer, err)
		}
	}
}

func TestRefusedTags(t *testing.T) {
	t.Parallel()
	n := newNotary(t, "sha1")
	ada, eve := n.key(t, "ada"), n.key(t, "eve")
	signers := n.signers(t, "signers", "ada@example.com "+ada)
	good := n.sign(t, "ada", "release-1")
	n.refuses(t, n.sign(t, "eve", "release-2"), signers, fmt.Sprintf(`tag "release-2" is signed by somebody else: %q does not have the ED25519 key SHA256:`, signers))

	gittest.Git(t, n.Dir, "tag", "-a", "-m", "message", "unsigned", "master")
	gittest.Git(t, n.Dir, "tag", "-a", "-m", "message", "outer", "release-1")
	gittest.Git(t, n.Dir, "tag", "light", "release-1^{}")
	n.refuses(t, name(t, n.Repository, "unsigned"), signers, `tag "unsigned" is not signed with an SSH key`)
	n.refuses(t, name(t, n.Repository, "outer"), signers, `tag "outer" is not signed with an SSH key`)
	n.refuses(t, name(t, n.Repository, "light"), signers, "it is not signed: it is no annotated tag")
	n.refuses(t, name(t, n.Repository, "light^{tree}"), signers, "it is not signed: it is no annotated tag")
	n.refuses(t, missing(n.Repository), signers, ErrNoObject.Error())

	// A signature is of its content.
	content := ask(t, n.Repository, "cat-file", "tag", good.String())
	for _, change := range [][2]string{
		{"tag release-1\n", "tag release-3\n"}, {"type commit", "type tree"}, {"\nmessage\n", "\nmassage\n"}, {"1700000000", "1700000001"},
		{name(t, n.Repository, "master").String(), name(t, n.Repository, "master^{tree}").String()},
	} {
		changed := strings.Replace(content, change[0], change[1], 1)
		if changed == content {
			t.Fatalf("%q is not in %q", change[0], content)
		}
		n.refuses(t, n.object(t, changed), signers, " is not what was signed: it was changed afterwards")
	}
	begin := strings.Index(content, sshBegin)
	n.refuses(t, n.object(t, content[:begin]+anySSH), signers, `the signature of tag "release-1" is not good: "`)
	n.refuses(t, n.object(t, content[:begin]+content[begin:begin+40]+"\n"+sshEnd+"\n"), signers, `the signature of tag "release-1" is not good: "`)

	// A key has its limits.
	for line, want := range map[string]string{
		"ada namespaces=\"file\" " + ada:                        "is signed by a key that " + fmt.Sprintf("%q", signers) + " allows for other things than git",
		"ada valid-before=\"20200101\" " + ada:                  "is signed by a key that was not valid then",
		"ada valid-after=\"20500101\" " + ada:                   "is signed by a key that was not valid then",
		"ada cert-authority " + ada:                             "is signed by somebody else",
		"ada namespaces=\"file\" " + ada + "eve@example " + eve: "allows for other things than git",
		"":         "is signed by somebody else",
		"nonsense": "is signed by somebody else",
	} {
		n.refuses(t, good, n.signers(t, "signers", line), want)
	}
}

// TestOtherPrograms: what the repository's configuration calls a verifier is
// not asked.
func TestOtherPrograms(t *testing.T) {
	t.Parallel()
	n := newNotary(t, "sha1")
	signers := n.signers(t, "signers", "ada@example.com "+n.key(t, "ada"))
	n.key(t, "eve")
	yes := filepath.Join(n.dir, "yes")
	script := `#!/bin/sh
cat >/dev/null
echo 'Good "git" signature for ada@example.com with ED25519 key SHA256:x'
echo '[GNUPG:] NEWSIG'
echo '[GNUPG:] GOODSIG 0123456789ABCDEF ada@example.com'
echo '[GNUPG:] TRUST_ULTIMATE 0 pgp'
`
	gittest.Script(t, yes, script)
	for _, key := range []string{"gpg.program", "gpg.openpgp.program", "gpg.x509.program", "gpg.ssh.program"} {
		gittest.Git(t, n.Dir, "config", key, yes)
	}
	gittest.Git(t, n.Dir, "config", "gpg.ssh.allowedSignersFile", signers)
	header := strings.Replace(tagHeader, anyTarget, name(t, n.Repository, "master").String(), 1) + "\nmessage\n"
	for _, oid := range []OID{
		n.object(t, header+anyPGP),
		n.object(t, header+anySSH+anyPGP),
		n.object(t, header+"-----BEGIN PGP MESSAGE-----\n-----END PGP MESSAGE-----\n"),
		n.object(t, header+"-----BEGIN SIGNED MESSAGE-----\n-----END SIGNED MESSAGE-----\n"),
	} {
		if _, err := n.Run(t.Context(), "verify-tag", oid.String()); err != nil {
			t.Errorf("git alone does not fall for it: %v", err)
		}
		n.refuses(t, oid, signers, `tag "v1" is not signed with an SSH key`)
		if said, err := n.verify(t.Context(), oid, signers); err == nil {
			t.Errorf("git is content: %s", said)
		}
	}
	gittest.Git(t, n.Dir, "config", "--unset", "gpg.ssh.program")
	eves := n.sign(t, "eve", "release-1")
	gittest.Git(t, n.Dir, "config", "gpg.ssh.program", yes)
	if _, err := n.Run(t.Context(), "verify-tag", eves.String()); err != nil {
		t.Errorf("git alone does not fall for it: %v", err)
	}
	n.refuses(t, eves, signers, "is signed by somebody else")
}

// TestReplacedSignature: a good tag that is put in the place of another does
// not vouch for it, not even while somebody has begun to read.
func TestReplacedSignature(t *testing.T) {
	t.Parallel()
	n := newNotary(t, "sha1")
	signers := n.signers(t, "signers", "ada@example.com "+n.key(t, "ada"))
	good := n.sign(t, "ada", "release-1")
	content := ask(t, n.Repository, "cat-file", "tag", good.String())
	evil := n.object(t, strings.Replace(content, "tag release-1", "tag release-2", 1))
	n.layout() // the repository is plain, for all that n knows
	gittest.Git(t, n.Dir, "replace", evil.String(), good.String())
	if _, err := n.Run(t.Context(), "-c", "gpg.ssh.allowedSignersFile="+signers, "verify-tag", evil.String()); err != nil {
		t.Errorf("git alone does not fall for it: %v", err)
	}
	n.refuses(t, evil, signers, "it was changed afterwards")
	again, err := Open(n.Dir, gittest.Environ())
	if err != nil {
		t.Fatal(err)
	}
	n.Repository = again
	n.refuses(t, evil, signers, "another object is in its place")
}

// TestCannotVerify: what is wrong with the machine is not the tag's fault.
func TestCannotVerify(t *testing.T) {
	t.Parallel()
	n := newNotary(t, "sha1")
	signers := n.signers(t, "signers", "ada@example.com "+n.key(t, "ada"))
	good := n.sign(t, "ada", "release-1")

	none := filepath.Join(n.dir, "no such\x1b")
	n.refuses(t, good, none, fmt.Sprintf("reading who may sign tags, %q: no such file or directory", none))
	n.refuses(t, good, n.dir, fmt.Sprintf("reading who may sign tags, %q: not a file", n.dir))
	fifo := filepath.Join(n.dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	n.refuses(t, good, fifo, "not a file")
	if os.Geteuid() != 0 {
		closed := n.signers(t, "closed", "")
		os.Chmod(closed, 0)
		n.refuses(t, good, closed, fmt.Sprintf("reading who may sign tags, %q: permission denied", closed))
	}

	// with opens the repository where these programs are all there is.
	with := func(programs map[string]string) *notary {
		dir := gittest.Dir(t)
		for name, script := range programs {
			path := filepath.Join(dir, name)
			if !strings.HasPrefix(script, "/") {
				gittest.Script(t, path, "#!/bin/sh\n"+script)
			} else if err := os.Symlink(script, path); err != nil {
				t.Fatal(err)
			}
		}
		env := slices.DeleteFunc(gittest.Environ(), func(kv string) bool { return strings.HasPrefix(kv, "PATH=") })
		r, err := Open(n.Dir, append(env, "PATH="+dir))
		if err != nil {
			t.Fatal(err)
		}
		return &notary{r, n.dir}
	}
	git := n.gitPath()
	with(map[string]string{"git": git}).refuses(t, good, signers, `verifying the signature of tag "release-1": ssh-keygen is not installed`)
	with(map[string]string{"git": git, "ssh-keygen": "echo 'unknown option -- Y' >&2; echo 'usage: ssh-keygen' >&2; exit 1"}).
		refuses(t, good, signers, `verifying the signature of tag "release-1": ssh-keygen is older than OpenSSH 8.2`)
	with(map[string]string{"git": `case $* in version) echo git version 2.33.1;; *) echo error: no signature found >&2; exit 1;; esac`}).
		refuses(t, good, signers, `verifying the signature of tag "release-1": git 2.33.1 is older than 2.34, which knows SSH signatures`)
	with(map[string]string{"git": "exit 0"}).refuses(t, good, signers, `verifying the signature of tag "release-1": git names no signer`)
	with(map[string]string{"git": "kill -9 $$"}).refuses(t, good, signers, `verifying the signature of tag "release-1": signal: killed`)
	with(map[string]string{"git": `printf 'one\ntwo\033[31m\n' >&2; exit 1`}).refuses(t, good, signers, `the signature of tag "release-1" is not good: "two\x1b[31m"`)

	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	hanging := with(map[string]string{"git": "exec /bin/sleep 1000"})
	if _, err := hanging.VerifyTag(ctx, good, signers); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a git that hangs: %v", err)
	}
}

// FuzzTag: what is taken for a tag begins with nothing but what is read of it.
func FuzzTag(f *testing.F) {
	f.Add([]byte(tagHeader + "\nmessage\n" + anySSH))
	f.Add([]byte(tagHeader + "\n" + anySSH + anyPGP))
	f.Add([]byte(strings.Replace(tagHeader, "commit", "tree", 1)))
	f.Add([]byte(tagHeader + "gpgsig -----BEGIN\n\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		tag, err := parseTag(data, 20)
		if err != nil {
			if len(err.Error()) > 1000 {
				t.Errorf("an error of %d bytes", len(err.Error()))
			}
			return
		}
		if !bytes.HasPrefix(data, fmt.Appendf(nil, "object %s\ntype %s\ntag %s\ntagger ", tag.Target, tag.Kind, tag.Name)) {
			t.Errorf("%q is read as %+v", data, tag)
		}
		if tag.Signed && !bytes.HasSuffix(bytes.TrimRight(data, "\n"), []byte("\n"+sshEnd)) {
			t.Errorf("%q counts as signed", data)
		}
	})
}
