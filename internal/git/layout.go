package git

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
)

// layout is how the repository stores things.
type layout struct {
	hashSize int  // bytes of an object name
	files    bool // a ref that is not packed is a file of its own
	replaces bool // with files: some objects may be replaced by others
	// objects are the directories that objects are read from without git; none
	// where only git may read them.
	objects []string
}

// readLayout decides what is read without git. Git alone knows what an
// extension of the repository's format means, but for the two that say which
// hash and which storage of refs there is: what a partial clone lacks it
// fetches. And it alone replaces objects by others.
func (r *Repository) readLayout() layout {
	l := layout{hashSize: 20, files: true, replaces: r.replacesObjects()}
	cfg, err := r.ownConfig()
	if err != nil {
		return l
	}
	plain := true
	for key := range cfg {
		extension, found := strings.CutPrefix(key, "extensions.")
		switch value := cfg.Last(key); {
		case !found:
		case extension == "objectformat" && strings.EqualFold(value, "sha256"):
			l.hashSize = 32
		case extension == "objectformat" && strings.EqualFold(value, "sha1"):
		case extension == "refstorage":
			l.files = strings.EqualFold(value, "files")
		default:
			plain = false
		}
	}
	// Where refs are no files, what replaces objects is not seen here.
	if plain && !l.replaces && (l.files || r.getenv("GIT_NO_REPLACE_OBJECTS") != "") {
		l.objects, _ = r.objectDirs() // else git finds them
	}
	return l
}

// ownConfig reads the repository's own configuration file, which alone tells
// how it stores things.
func (r *Repository) ownConfig() (Config, error) {
	data, err := os.ReadFile(filepath.Join(r.Dir, "config"))
	if err != nil {
		return nil, err
	}
	c := Config{}
	if c.parse(string(data)) == nil {
		return c, nil
	}
	out, err := r.Run(context.Background(), "config", "--file", filepath.Join(r.Dir, "config"), "--no-includes", "--list", "-z")
	return parseList(out), err
}

func (r *Repository) replacesObjects() bool {
	packed, err := os.ReadFile(filepath.Join(r.Dir, "packed-refs"))
	return exists(filepath.Join(r.Dir, "refs/replace")) || err != nil && !os.IsNotExist(err) ||
		bytes.Contains(packed, []byte(" refs/replace/"))
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// HashSize returns the bytes of an object name here: 20, or 32 with SHA-256.
func (r *Repository) HashSize() int { return r.layout().hashSize }
