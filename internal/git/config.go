package git

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"

	gogitconfig "github.com/go-git/go-git/v5/plumbing/format/config"
)

// Config is git's configuration as it holds for this repository, all files and
// includes taken together. Keys are as git prints them: section and name in
// lower case.
type Config map[string][]string

// Config reads the configuration.
func (r *Repository) Config(ctx context.Context) (Config, error) {
	out, err := r.Run(ctx, "config", "--list", "-z")
	if err != nil {
		return nil, err
	}
	c := Config{}
	for _, item := range strings.Split(strings.TrimSuffix(out, "\x00"), "\x00") {
		key, value, given := strings.Cut(item, "\n")
		if !given {
			value = "true" // "[section] key" without "=" is git's short form of true
		}
		c[key] = append(c[key], value)
	}
	return c, nil
}

// Bool returns a boolean key; the last value counts, as in git.
func (c Config) Bool(key string) bool {
	values := c[key]
	if len(values) == 0 {
		return false
	}
	switch strings.ToLower(values[len(values)-1]) {
	case "", "false", "no", "off", "0":
		return false
	}
	return true
}

// Last returns the value that counts of a key that is given several times, ""
// where it is not given.
func (c Config) Last(key string) string {
	values := c[key]
	if len(values) == 0 {
		return ""
	}
	return values[len(values)-1]
}

// layout is how the repository stores things.
type layout struct {
	hashSize int  // bytes of an object name
	plain    bool // go-git reads it correctly
	files    bool // a ref that is not packed is a file of its own
	replaces bool // with files: some objects may be replaced by others
}

// readLayout decides whether go-git may read the repository. It would fail on,
// or silently misread: every extension (SHA-256, reftable, partial clones,
// worktree configuration), alternates, replaced objects and quarantine. A
// large pack is left to git too: go-git loads the whole index of every pack
// before it reads one object.
func (r *Repository) readLayout() layout {
	l := layout{hashSize: 20, files: true, replaces: r.replacesObjects()}
	data, err := os.ReadFile(filepath.Join(r.Dir, "config"))
	if err != nil {
		return l
	}
	cfg := gogitconfig.New()
	if err := gogitconfig.NewDecoder(bytes.NewReader(data)).Decode(cfg); err != nil {
		return r.askLayout()
	}
	if cfg.HasSection("extensions") {
		if strings.EqualFold(cfg.Section("extensions").Option("objectformat"), "sha256") {
			l.hashSize = 32
		}
		storage := cfg.Section("extensions").Option("refstorage")
		l.files = storage == "" || strings.EqualFold(storage, "files")
		return l
	}
	l.plain = !r.quarantined() && !exists(filepath.Join(r.Dir, "objects/info/alternates")) &&
		!l.replaces && r.packIndexBytes() < 1<<20
	return l
}

// askLayout is for a configuration file that go-git's parser does not take.
func (r *Repository) askLayout() layout {
	format, _ := r.Run(context.Background(), "rev-parse", "--show-object-format")
	if strings.TrimSpace(format) == "sha256" {
		return layout{hashSize: 32}
	}
	return layout{hashSize: 20}
}

func (r *Repository) replacesObjects() bool {
	packed, err := os.ReadFile(filepath.Join(r.Dir, "packed-refs"))
	return exists(filepath.Join(r.Dir, "refs/replace")) || err != nil && !os.IsNotExist(err) ||
		bytes.Contains(packed, []byte(" refs/replace/"))
}

func (r *Repository) packIndexBytes() (total int64) {
	entries, _ := os.ReadDir(filepath.Join(r.Dir, "objects/pack"))
	for _, e := range entries {
		if st, err := e.Info(); err == nil && strings.HasSuffix(e.Name(), ".idx") {
			total += st.Size()
		}
	}
	return total
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// HashSize returns the bytes of an object name here: 20, or 32 with SHA-256.
func (r *Repository) HashSize() int { return r.layout().hashSize }
