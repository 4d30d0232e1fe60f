package git

import (
	"bytes"
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// A Tag is an annotated tag as git stores it.
type Tag struct {
	Name   string // that it was made with; the ref may have another one
	Target OID
	Kind   string // of the target: "commit", "tree", "blob" or "tag"
	// Signed tells that there is an SSH signature, not that it is good.
	Signed bool
}

// maxTag bounds the tags that are read, in bytes.
const maxTag = 1 << 20

// Tag reads an annotated tag; nil where oid is another object. A tag that git
// would not write today, that refs/replace replaces, or of more than 1 MiB, is
// an error.
func (o *Objects) Tag(oid OID) (*Tag, error) {
	var data []byte
	err := o.open(oid, func(kind string, size int64, r io.Reader) error {
		if kind != "tag" {
			return nil
		}
		if size > maxTag {
			return fmt.Errorf("the tag is %d bytes, more than the %d that are read", size, maxTag)
		}
		data = make([]byte, size)
		_, err := io.ReadFull(r, data)
		return err
	})
	if err != nil || data == nil {
		return nil, err
	}
	if hashTag(data, o.HashSize()) != oid {
		return nil, fmt.Errorf("tag %s: another object is in its place", oid)
	}
	tag, err := parseTag(data, o.HashSize())
	if err != nil {
		return nil, fmt.Errorf("tag %s: %w", oid, err)
	}
	return tag, nil
}

// hashTag returns the name of the tag that data is.
func hashTag(data []byte, hashSize int) OID {
	object := append(fmt.Appendf(nil, "tag %d\x00", len(data)), data...)
	if hashSize == sha256.Size {
		sum := sha256.Sum256(object)
		return OIDFromBytes(sum[:])
	}
	sum := sha1.Sum(object)
	return OIDFromBytes(sum[:])
}

func parseTag(data []byte, hashSize int) (*Tag, error) {
	header, message, _ := bytes.Cut(data, []byte("\n\n"))
	values := map[string]string{}
	lines := strings.Split(strings.TrimSuffix(string(header), "\n"), "\n")
	names := []string{"object", "type", "tag", "tagger"}
	for i, name := range names {
		if i == len(lines) {
			return nil, fmt.Errorf("it has no %q", name)
		}
		value, found := strings.CutPrefix(lines[i], name+" ")
		if !found || value == "" || strings.ContainsFunc(value, control) {
			return nil, fmt.Errorf("%s where its %q should be", quoted(lines[i]), name)
		}
		values[name] = value
	}
	if len(lines) > len(names) {
		return nil, fmt.Errorf("%s in its header", quoted(lines[len(names)]))
	}
	tag := &Tag{Name: values["tag"], Kind: values["type"], Signed: endsSigned(message)}
	var err error
	if tag.Target, err = ParseOID(values["object"]); err != nil {
		return nil, err
	}
	if len(tag.Target.Bytes()) != hashSize {
		return nil, fmt.Errorf("%s is no object's name here", quoted(values["object"]))
	}
	switch tag.Kind {
	case "commit", "tree", "blob", "tag":
		return tag, nil
	}
	return nil, fmt.Errorf("%s is no type of object", quoted(tag.Kind))
}

func control(r rune) bool { return r < ' ' || r == 0x7f }

// quoted shows the beginning of a line of somebody else's.
func quoted(line string) string { return fmt.Sprintf("%.100q", line) }

// The lines that a signature begins and ends with.
const (
	sshBegin = "-----BEGIN SSH SIGNATURE-----"
	sshEnd   = "-----END SSH SIGNATURE-----"
)

// endsSigned tells whether a message ends in an SSH signature. As in git the
// last line counts that begins a signature of any kind.
func endsSigned(message []byte) bool {
	text := strings.TrimRight(string(message), "\n")
	begin := ""
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		for _, kind := range []string{"SSH SIGNATURE", "PGP SIGNATURE", "PGP MESSAGE", "SIGNED MESSAGE"} {
			if strings.HasPrefix(line, "-----BEGIN "+kind+"-----") {
				begin = line
			}
		}
	}
	return begin == sshBegin && strings.HasSuffix(text, "\n"+sshEnd)
}

// VerifyTag returns who has signed the annotated tag oid: the principal of the
// key in signers, an SSH allowed-signers file, as that file has it. Only
// signatures by SSH keys are accepted that the file lets sign for git, at the
// time that the tag gives as its own: valid-before does not end what a stolen
// key can do, which is to be taken out of the file. VerifyTag is about the
// signature alone, the caller compares the tag's name and target with what they
// are used for.
//
// The error is one line that makes sense alone.
func (r *Repository) VerifyTag(ctx context.Context, oid OID, signers string) (signer string, err error) {
	objects := r.Objects(ctx)
	defer objects.Close()
	tag, err := objects.Tag(oid)
	switch {
	case err != nil:
		return "", err
	case tag == nil:
		return "", errors.New("it is not signed: it is no annotated tag")
	case !tag.Signed:
		return "", fmt.Errorf("tag %q is not signed with an SSH key", tag.Name)
	}
	if signers, err = filepath.Abs(signers); err == nil {
		err = readable(signers)
	}
	if err != nil {
		return "", fmt.Errorf("reading who may sign tags, %q: %w", signers, err)
	}
	said, err := r.verify(ctx, oid, signers)
	for n := 0; n < 3 && brokenPipe(err); n++ {
		// ssh-keygen had seen enough before git had handed it the tag.
		said, err = r.verify(ctx, oid, signers)
	}
	if err == nil {
		if signer := principal(said); signer != "" {
			return signer, nil
		}
		err = errors.New("git names no signer")
	}
	if exitStatus(err) < 0 { // it has no opinion
		return "", fmt.Errorf("verifying the signature of tag %q: %w", tag.Name, err)
	}
	return "", r.refusal(ctx, tag.Name, signers, said)
}

// readable tells why a file cannot be read.
func readable(path string) error {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a FIFO would wait for a writer
	if wrapped := (*os.PathError)(nil); errors.As(err, &wrapped) {
		return wrapped.Err
	}
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err == nil && !st.Mode().IsRegular() {
		return errors.New("not a file")
	}
	return err
}

// verify returns what git says of the tag's signature. It is asked about the
// very object that Tag has read, and no program that the repository's
// configuration names is asked for an opinion.
func (r *Repository) verify(ctx context.Context, oid OID, signers string) (said string, err error) {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	cmd := r.command(ctx, []string{noReplacements},
		"-c", "gpg.ssh.allowedSignersFile="+signers, "-c", "gpg.ssh.program=ssh-keygen",
		"-c", "gpg.program=/bin/false", "-c", "gpg.openpgp.program=/bin/false", "-c", "gpg.x509.program=/bin/false",
		"verify-tag", "--raw", oid.String())
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	err = cmd.Run()
	if err != nil && ctx.Err() != nil {
		err = ctx.Err()
	}
	return stderr.String(), err
}

func brokenPipe(err error) bool {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return false
	}
	status, ok := exit.Sys().(syscall.WaitStatus)
	return ok && status.Signaled() && status.Signal() == syscall.SIGPIPE
}

// principal finds in ssh-keygen's words who made a good signature, "" for
// nobody: `Good "git" signature for PRINCIPAL with ED25519 key SHA256:…`.
func principal(said string) string {
	for line := range strings.Lines(said) {
		rest, found := strings.CutPrefix(line, `Good "git" signature for `)
		if i := strings.LastIndex(rest, " with "); found && i > 0 {
			return rest[:i]
		}
	}
	return ""
}

// refusal says in one line why git did not accept a signature.
func (r *Repository) refusal(ctx context.Context, name, signers, said string) error {
	has := func(part string) bool { return strings.Contains(said, part) }
	switch {
	case has("cannot run ssh-keygen"):
		return fmt.Errorf("verifying the signature of tag %q: ssh-keygen is not installed", name)
	case has("is needed for ssh signature verification"):
		return fmt.Errorf("verifying the signature of tag %q: ssh-keygen is older than OpenSSH 8.2", name)
	case has("no signature found"): // though there is one
		version, _ := r.Version(ctx)
		return fmt.Errorf("verifying the signature of tag %q: git %s is older than 2.34, which knows SSH signatures", name, version)
	case has("incorrect signature"):
		return fmt.Errorf("tag %q is not what was signed: it was changed afterwards", name)
	case has(`not permitted for use in signature namespace "git"`):
		return fmt.Errorf("tag %q is signed by a key that %q allows for other things than git", name, signers)
	case has("key has expired"), has("key is not yet valid"):
		return fmt.Errorf("tag %q is signed by a key that was not valid then, says %q", name, signers)
	}
	if _, key, found := strings.Cut(said, `Good "git" signature with `); found {
		key, _, _ = strings.Cut(key, "\n")
		return fmt.Errorf("tag %q is signed by somebody else: %q does not have the %s", name, signers, key)
	}
	lines := strings.Split(strings.TrimSpace(said), "\n")
	return fmt.Errorf("the signature of tag %q is not good: %s", name, quoted(lines[len(lines)-1]))
}
