package authorized

import (
	"encoding/base64"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const repo = "/home/deploy/sample_app"

// key makes the two words of a key: a type, and what it says it is inside.
func key(kind string, parts ...string) string {
	var blob []byte
	for _, part := range parts {
		blob = append(binary.BigEndian.AppendUint32(blob, uint32(len(part))), part...)
	}
	return kind + " " + base64.StdEncoding.EncodeToString(blob)
}

// ed makes a key of the usual type.
func ed(name string) string {
	return key("ssh-ed25519", "ssh-ed25519", (name + strings.Repeat("x", 32))[:32])
}

// parsed is the one key in a text.
func parsed(t *testing.T, text string) Key {
	t.Helper()
	keys, err := ParsePublic(text)
	if err != nil || len(keys) != 1 {
		t.Fatalf("%q: %v, %v", text, keys, err)
	}
	return keys[0]
}

func TestParsePublic(t *testing.T) {
	t.Parallel()
	ecdsa := key("ecdsa-sha2-nistp256", "ecdsa-sha2-nistp256", "nistp256", "point")
	text := "# ours\r\n\n" + ed("ann") + "\r\n  " + ed("bob") + "\tbob  has a name \n" + ecdsa + " x"
	keys, err := ParsePublic(text)
	if err != nil || len(keys) != 3 {
		t.Fatalf("got %v, %v", keys, err)
	}
	for i, comment := range []string{"", "bob  has a name", "x"} {
		if keys[i].Comment != comment {
			t.Errorf("the comment is %q, want %q", keys[i].Comment, comment)
		}
	}
	if keys[2].Type != "ecdsa-sha2-nistp256" || "ssh-ed25519 "+keys[0].Data != ed("ann") {
		t.Errorf("got %+v", keys)
	}
}

// TestNoKeys refuses what is no public key, in words that do not show it.
func TestNoKeys(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":         "it has no key",
		"# none\n": "it has no key",
		"-----BEGIN OPENSSH PRIVATE KEY-----\nc2VjcmV0\n":            "it is a private key",
		ed("ann") + "\nc2VjcmV0\n":                                   "line 2 is not a public key: it should begin with one of ssh-ed25519, ",
		"ssh-ed25519":                                                "line 1 is not a public key",
		"ssh-ed25519 c2VjcmV0?":                                      "its second word is not base64; perhaps it was cut",
		"ssh-dss " + strings.Fields(ed("ann"))[1]:                    "line 1 is not a public key: it should begin",
		key("ssh-rsa", "ssh-ed25519", "c2VjcmV0"):                    "is not a key of type ssh-rsa; perhaps it was cut",
		key("ssh-ed25519", "ssh-ed25519"):                            "perhaps it was cut",
		ed("ann")[:len(ed("ann"))-8]:                                 "perhaps it was cut",
		key("ssh-rsa", "ssh-rsa", "exponent", "a long modulus")[:52]: "perhaps it was cut",
		"ssh-ed25519 AAAA":                                           "perhaps it was cut",
		"ssh-ed25519 /////w==":                                       "perhaps it was cut",
		`restrict,command="x" ` + ed("ann"):                          "line 1 is not a public key",
	} {
		keys, err := ParsePublic(text)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, %v, want %q", text, keys, err, want)
		} else if strings.Contains(err.Error(), "c2VjcmV0") {
			t.Errorf("%q: the error shows it: %v", text, err)
		}
	}
}

// TestName makes names of comments that a shell and a history can have.
func TestName(t *testing.T) {
	t.Parallel()
	for comment, want := range map[string]string{
		"ann@laptop":            "ann@laptop",
		"Ann Example <a@b.org>": "Ann-Example--a@b.org-",
		`"; rm -rf /; echo "`:   "rm--rf----echo--",
		"-n":                    "n",
		"../../etc":             "etc",
		"änn":                   "nn",
		"a\xffb\x00c":           "a-b-c",
		"$(id)`id`":             "id--id-",
		strings.Repeat("x", 70): strings.Repeat("x", 64),
		"_":                     "_",
	} {
		k := Key{Type: "ssh-ed25519", Data: "AAAA", Comment: comment}
		if got := k.Name(); got != want {
			t.Errorf("%q is %q, want %q", comment, got, want)
		}
	}
	unnamed := regexp.MustCompile(`^key-[0-9a-f]{8}$`)
	for _, comment := range []string{"", "--", "…"} {
		if got := (Key{Data: "AAAA", Comment: comment}).Name(); !unnamed.MatchString(got) {
			t.Errorf("%q is %q", comment, got)
		}
	}
}

func FuzzName(f *testing.F) {
	f.Add("ann@laptop")
	f.Add("\xff\n\"$(")
	plain := regexp.MustCompile(`^[A-Za-z0-9_@][A-Za-z0-9._@-]{0,63}$`)
	f.Fuzz(func(t *testing.T, comment string) {
		if name := (Key{Data: "AAAA", Comment: comment}).Name(); !plain.MatchString(name) {
			t.Errorf("%q is %q", comment, name)
		}
	})
}

func TestEntries(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]struct {
		options string
		forced  bool
	}{
		ed("a"):                                    {"", false},
		"  " + ed("a") + " comment here":           {"", false},
		"no-pty " + ed("a"):                        {"no-pty", false},
		"no-pty,restrict\t" + ed("a"):              {"no-pty,restrict", false},
		`command="x y" ` + ed("a"):                 {`command="x y"`, true},
		`restrict,COMMAND="x" ` + ed("a"):          {`restrict,COMMAND="x"`, true},
		`from="a,command=\"b\" c" ` + ed("a"):      {`from="a,command=\"b\" c"`, false},
		`environment="A=\",command=" ` + ed("a"):   {`environment="A=\",command="`, false},
		`from="10.0.0.0/8",command="x" ` + ed("a"): {`from="10.0.0.0/8",command="x"`, true},
		`command="ssh-ed25519 AAAA" ` + ed("a"):    {`command="ssh-ed25519 AAAA"`, true},
		`from=\"a ` + ed("a"):                      {`from=\"a`, false},
		`no-command="x" ` + ed("a"):                {`no-command="x"`, false},
		`command ` + ed("a"):                       {`command`, false},
		"# " + ed("a"):                             {"none", false},
		"ssh-ed25519":                              {"none", false},
		`from="unterminated ` + ed("a"):            {"none", false},
		"ssh-ed25519-cert-v01@openssh.com AAAA x":  {"none", false},
		"": {"none", false},
	} {
		entries := Entries("\n" + text + "\n# end\n")
		switch {
		case want.options == "none":
			if len(entries) != 0 {
				t.Errorf("%q: got %+v", text, entries)
			}
		case len(entries) != 1 || entries[0].Number != 2 || entries[0].Options != want.options || entries[0].Forced() != want.forced ||
			entries[0].Key.Type+" "+entries[0].Key.Data != ed("a"):
			t.Errorf("%q: got %+v, want %+v", text, entries, want)
		}
	}
}

// TestLine is the line that sshd reads, and ours alone.
func TestLine(t *testing.T) {
	t.Parallel()
	k := parsed(t, ed("ann")+" ann@laptop")
	want := `restrict,command="/usr/local/bin/bluegreen --repo /home/deploy/sample_app ssh ann@laptop" ` + ed("ann") + " ann@laptop"
	if got := k.Line(repo); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	e := Entries(want)[0]
	if !e.Forced() || !e.IsFor(repo) || e.IsFor("/home/deploy/sample") || e.IsFor(repo+"2") {
		t.Errorf("it is %+v", e)
	}
	if e := Entries(strings.Replace(want, "restrict,", "", 1))[0]; e.IsFor(repo) {
		t.Error("a line without restrict is taken for ours")
	}
}

// TestAddRemove gives back what there was.
func TestAddRemove(t *testing.T) {
	t.Parallel()
	ann := parsed(t, ed("ann")+" ann")
	for name, c := range map[string]struct{ file, added, replaced string }{
		"none":     {"", "ANN\n", ""},
		"others":   {"# them\n" + ed("bob") + "\n", "# them\n" + ed("bob") + "\nANN\n", ""},
		"blank":    {"\n\n" + ed("bob") + "\n\n", "\n\n" + ed("bob") + "\n\nANN\n", ""},
		"a shell":  {ed("ann") + " home\n" + ed("bob") + "\n", "ANN\n" + ed("bob") + "\n", ed("ann") + " home"},
		"options":  {`no-pty,from="a b" ` + ed("ann") + "\n", "ANN\n", `no-pty,from="a b" ` + ed("ann")},
		"Windows'": {"# them\r\n" + ed("ann") + " home\r\n" + ed("bob") + "\r\n", "# them\r\nANN\n" + ed("bob") + "\r\n", ed("ann") + " home\r"},
		"broken":   {"what is this\n", "what is this\nANN\n", ""},
	} {
		added, replaced, err := Add(c.file, ann, repo)
		if want := strings.ReplaceAll(c.added, "ANN", ann.Line(repo)); err != nil || added != want || replaced != c.replaced {
			t.Errorf("%s: got %q, %q, %v, want %q, %q", name, added, replaced, err, want, c.replaced)
		}
		if again, replaced, err := Add(added, ann, repo); err != nil || again != added || replaced != "" {
			t.Errorf("%s, again: got %q, %q, %v", name, again, replaced, err)
		}
		former := map[string]string{}
		if replaced != "" {
			former[ann.Fingerprint()] = replaced
		}
		if got := Remove(added, repo, former); got != c.file {
			t.Errorf("%s, removed: got %q, want %q", name, got, c.file)
		}
		if got := Remove(added, "/home/deploy/other", former); got != added {
			t.Errorf("%s, for another repository: got %q", name, got)
		}
	}
	if added, _, _ := Add(ed("bob"), ann, repo); added != ed("bob")+"\n"+ann.Line(repo)+"\n" {
		t.Errorf("after a line that does not end: %q", added)
	}
	renamed := parsed(t, ed("ann")+" ann@work")
	if changed, replaced, err := Add(ann.Line(repo)+"\n", renamed, repo); err != nil || changed != renamed.Line(repo)+"\n" || replaced != "" {
		t.Errorf("another comment: %q, %q, %v", changed, replaced, err)
	}
}

func TestAddRefuses(t *testing.T) {
	t.Parallel()
	ann := parsed(t, ed("ann")+" ann")
	for name, c := range map[string]struct{ file, want string }{
		"another command":    {"\n" + `command="backup" ` + ed("ann") + "\n", "is bound to another command already, in line 2; use another key, or another account"},
		"another repository": {ann.Line("/srv/shop") + "\n", "is bound to another command already, in line 1"},
		"twice":              {ed("ann") + "\n" + ed("bob") + "\n" + ed("ann") + "\n", "is there twice, in lines 1 and 3; remove one"},
		"ours and a shell":   {ann.Line(repo) + "\n" + ed("ann") + "\n", "is there twice, in lines 1 and 2; remove one"},
	} {
		changed, replaced, err := Add(c.file, ann, repo)
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), ann.Fingerprint()) || changed+replaced != "" {
			t.Errorf("%s: %q, %q, %v, want %q", name, changed, replaced, err, c.want)
		}
	}
}

// TestReal agrees with OpenSSH on keys of each type that it makes here.
func TestReal(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("ssh-keygen"); err != nil {
		t.Skip("there is no ssh-keygen here")
	}
	dir := t.TempDir()
	for kind, bits := range map[string]string{"ed25519": "256", "ecdsa": "384", "rsa": "2048"} {
		file := filepath.Join(dir, kind)
		if out, err := exec.Command("ssh-keygen", "-q", "-t", kind, "-b", bits, "-N", "", "-C", "ann at home", "-f", file).CombinedOutput(); err != nil {
			t.Fatalf("ssh-keygen: %v: %s", err, out)
		}
		text, err := os.ReadFile(file + ".pub")
		if err != nil {
			t.Fatal(err)
		}
		k := parsed(t, string(text))
		// It reads our line, too.
		if err := os.WriteFile(file+".line", []byte(k.Line(repo)+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command("ssh-keygen", "-l", "-f", file+".line").Output()
		if err != nil || !strings.Contains(string(out), k.Fingerprint()+" ann-at-home") {
			t.Errorf("%s: ssh-keygen says %q, %v, want %s", kind, out, err, k.Fingerprint())
		}
		private, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if keys, err := ParsePublic(string(private)); err == nil {
			t.Errorf("%s: the private key is taken for %v", kind, keys)
		}
	}
}
