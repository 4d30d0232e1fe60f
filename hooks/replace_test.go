package hooks_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestReplacedAndSigned: where tags must be signed, a commit is what its name
// says, also where no pre-receive has kept another one out of its place. The
// signature is of the name.
func TestReplacedAndSigned(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("ssh-keygen"); err != nil {
		t.Skip("there is no ssh-keygen to sign with")
	}
	c := newCloud(t, played, "", "proc-receive", "post-receive")
	keys := t.TempDir()
	signers := filepath.Join(keys, "signers")
	c.blue.run(keys, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(keys, "ann"))
	public, err := os.ReadFile(filepath.Join(keys, "ann.pub"))
	must(t, err)
	must(t, os.WriteFile(signers, append([]byte("ann@example.com "), public...), 0o644))
	c.edit(c.blue, "[promotion]\n", fmt.Sprintf("[promotion]\nsigners = %q\n", signers))

	signed := c.blue.commit(map[string]string{"index.html": "signed\n"})
	c.dev("-c", "gpg.format=ssh", "-c", "user.signingkey="+filepath.Join(keys, "ann"), "tag", "-s", "-m", "x", "release-1")
	c.dev("checkout", "-q", "-b", "evil", c.first)
	c.blue.commit(map[string]string{"index.html": "evil\n"})
	c.dev("checkout", "-q", "master")
	c.dev("push", "-q", "blue", "master:refs/heads/stored", "evil:refs/replace/"+signed)
	status, out := c.push(nil, "blue", "-o", "live", "master")
	if status != 0 {
		t.Fatalf("the branch: status %d\n%s", status, out)
	}
	status, out = c.push(nil, "blue", "release-1")
	if status != 0 || c.owner() != "blue" {
		t.Errorf("the tag: status %d\n%s", status, out)
	}
	page, err := os.ReadFile(filepath.Join(c.blue.www, "index.html"))
	if err != nil || strings.TrimSpace(string(page)) != "signed" {
		t.Errorf("what the signature promotes is %q, %v", page, err)
	}
}
