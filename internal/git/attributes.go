package git

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// Rules are what decides, together with the .gitattributes of a tree, how git's
// checkout changes contents: the configuration, attributes from outside of the
// tree, and refs/replace. Where nothing of that is set no process is started to
// find out.
type Rules struct {
	// Symlinks is core.symlinks: where it is false, a symlink becomes a file
	// that holds its target.
	Symlinks bool
	// Replaced maps objects to those that take their place.
	Replaced map[OID]OID

	repo    *Repository
	config  Config // nil while it matters to nobody
	auto    string // core.autocrlf: "true", "input" or "false"
	crlf    bool   // lines of text end in CRLF unless an attribute says otherwise
	source  string // attr.tree: a tree whose attributes count in place of those in the index
	outside Mentions
	digest  []byte // of the attributes from outside
}

// Rules reads the rules that hold now.
func (r *Repository) Rules(ctx context.Context) (*Rules, error) {
	rules := &Rules{repo: r, Symlinks: true, auto: "false"}
	if r.configSays("autocrlf", "eol", "symlinks", "attributesfile", "include", "[attr") {
		if err := rules.configure(ctx); err != nil {
			return nil, err
		}
	}
	if err := rules.readOutside(ctx); err != nil {
		return nil, err
	}
	return rules, rules.readReplaced(ctx)
}

// configure reads the configuration as git does, by git.
func (r *Rules) configure(ctx context.Context) error {
	if r.config != nil {
		return nil
	}
	config, err := r.repo.Config(ctx)
	if err != nil {
		return err
	}
	r.config = config
	r.Symlinks = len(config["core.symlinks"]) == 0 || config.Bool("core.symlinks")
	r.auto = "false"
	if strings.EqualFold(config.Last("core.autocrlf"), "input") {
		r.auto = "input"
	} else if config.Bool("core.autocrlf") {
		r.auto = "true"
	}
	r.crlf = r.auto == "true" || r.auto == "false" && strings.EqualFold(config.Last("core.eol"), "crlf")
	r.source = config.Last("attr.tree")
	return nil
}

// configSays tells whether one of the words is in one of the files that git's
// configuration is read from. Sections and keys are plain text in them.
func (r *Repository) configSays(words ...string) bool {
	for _, path := range r.configFiles() {
		data, err := os.ReadFile(path)
		if err != nil {
			continue // git says what is wrong with it, where that matters
		}
		data = bytes.ToLower(data)
		for _, word := range words {
			if bytes.Contains(data, []byte(word)) {
				return true
			}
		}
	}
	return false
}

// configFiles lists where configuration may be.
func (r *Repository) configFiles() []string {
	files := []string{filepath.Join(r.Dir, "config"), filepath.Join(r.Dir, "config.worktree")}
	if global := r.getenv("GIT_CONFIG_GLOBAL"); global != "" {
		files = append(files, global)
	} else {
		files = append(files, r.homeFiles("config", ".gitconfig")...)
	}
	if r.disabled("GIT_CONFIG_NOSYSTEM") {
		return files
	}
	if system := r.getenv("GIT_CONFIG_SYSTEM"); system != "" {
		return append(files, system)
	}
	return append(files, r.systemFiles("gitconfig")...)
}

// homeFiles lists where an account's file of git's may be: name in git's own
// directory, and dotted at home.
func (r *Repository) homeFiles(name, dotted string) []string {
	home, xdg := r.getenv("HOME"), r.getenv("XDG_CONFIG_HOME")
	var files []string
	if xdg == "" && home != "" {
		xdg = filepath.Join(home, ".config")
	}
	if xdg != "" {
		files = append(files, filepath.Join(xdg, "git", name))
	}
	if home != "" && dotted != "" {
		files = append(files, filepath.Join(home, dotted))
	}
	return files
}

// systemFiles lists where a system-wide file of git's may be. It depends on
// where git was built to lie, which git tells from 2.41 on only.
func (r *Repository) systemFiles(name string) []string {
	files := []string{filepath.Join("/etc", name)}
	program := r.gitPath()
	for range 2 { // as it is called, and as it is
		prefix := filepath.Dir(filepath.Dir(program))
		if file := filepath.Join(prefix, "etc", name); prefix != "/usr" && !slices.Contains(files, file) {
			files = append(files, file)
		}
		resolved, err := filepath.EvalSymlinks(program)
		if err != nil {
			break
		}
		program = resolved
	}
	return files
}

func (r *Repository) getenv(name string) string {
	for _, kv := range r.env {
		if value, found := strings.CutPrefix(kv, name+"="); found {
			return value
		}
	}
	return ""
}

// disabled tells whether a variable switches a file of git's off.
func (r *Repository) disabled(name string) bool {
	return Config{name: {r.getenv(name)}}.Bool(name)
}

// readOutside reads the attributes from outside of the tree: the system's, the
// account's and the repository's.
func (r *Rules) readOutside(ctx context.Context) error {
	var files []string
	if !r.repo.disabled("GIT_ATTR_NOSYSTEM") {
		files = r.repo.systemFiles("gitattributes")
	}
	if len(r.config["core.attributesfile"]) == 0 {
		files = append(files, r.repo.homeFiles("attributes", "")...)
	} else {
		path, err := r.repo.Run(ctx, "config", "--type=path", "--get", "core.attributesfile")
		if err != nil {
			return err
		}
		files = append(files, strings.TrimSuffix(path, "\n"))
	}
	files = append(files, filepath.Join(r.repo.Dir, "info/attributes"))
	digest := sha256.New()
	for _, path := range files {
		// A relative path is one in the work tree, and a fresh one is empty.
		if filepath.IsAbs(path) && !copyFile(io.MultiWriter(digest, &r.outside), path) {
			continue
		}
		fmt.Fprintf(digest, "\x00end of %s\n", filepath.Base(path))
	}
	if r.outside.any {
		r.digest = digest.Sum(nil)
	}
	return nil
}

// copyFile copies a file that can be read; git leaves out others.
func copyFile(to io.Writer, path string) bool {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a FIFO would wait for a writer
	if err != nil {
		return false
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		return false
	}
	_, err = io.Copy(to, f)
	return err == nil
}

func (r *Rules) readReplaced(ctx context.Context) error {
	if l := r.repo.layout(); l.files && !l.replaces || r.repo.getenv("GIT_NO_REPLACE_OBJECTS") != "" {
		return nil
	}
	out, err := r.repo.Run(ctx, "for-each-ref", "--format=%(refname:lstrip=2) %(objectname)", "refs/replace/")
	if err != nil {
		return err
	}
	for line := range strings.Lines(out) {
		old, new, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		from, err := ParseOID(old)
		if err != nil {
			continue // not a name that replaces anything
		}
		to, err := ParseOID(new)
		if err != nil {
			return err
		}
		if r.Replaced == nil {
			r.Replaced = map[OID]OID{}
		}
		r.Replaced[from] = to
	}
	return nil
}

// Fingerprint stands for all of the rules but the filters: while it is the same,
// the same tree converts to the same contents. It is "plain" where nothing is set.
func (r *Rules) Fingerprint(ctx context.Context) (string, error) {
	set := ""
	if r.auto != "false" || r.crlf || !r.Symlinks {
		set = fmt.Sprintf("autocrlf %s, crlf %t, symlinks %t\n", r.auto, r.crlf, r.Symlinks)
	}
	if r.source != "" {
		tree, err := r.repo.Run(ctx, "rev-parse", "--verify", "--quiet", "--end-of-options", r.source+"^{tree}")
		if err != nil && exitStatus(err) < 0 {
			return "", err
		}
		set += "tree " + tree
	}
	if len(r.digest) > 0 {
		set += fmt.Sprintf("attributes %x\n", r.digest)
	}
	for _, oid := range slices.SortedFunc(maps.Keys(r.Replaced), func(a, b OID) int { return strings.Compare(a.String(), b.String()) }) {
		set += fmt.Sprintf("replaced %s %s\n", oid, r.Replaced[oid])
	}
	if set == "" {
		return "plain", nil
	}
	return digestOf(set), nil
}

// Filters stands for the configured filters, "" where there is none.
func (r *Rules) Filters(ctx context.Context) (string, error) {
	if r.config == nil && !r.repo.configSays("filter", "include") {
		return "", nil
	}
	if err := r.configure(ctx); err != nil {
		return "", err
	}
	set := ""
	for _, key := range slices.Sorted(maps.Keys(r.config)) {
		if _, what := filterKey(key); what == "smudge" || what == "process" || what == "required" {
			set += fmt.Sprintf("%s=%s\n", key, r.config.Last(key))
		}
	}
	if set == "" {
		return "", nil
	}
	return digestOf(set), nil
}

func digestOf(set string) string {
	sum := sha256.Sum256([]byte(set))
	return fmt.Sprintf("%x", sum[:8])
}

// filterKey takes "filter.NAME.WHAT" apart.
func filterKey(key string) (name, what string) {
	rest, found := strings.CutPrefix(key, "filter.")
	dot := strings.LastIndexByte(rest, '.')
	if !found || dot < 0 {
		return "", ""
	}
	return rest[:dot], rest[dot+1:]
}

// filters tells whether a checkout runs the filter, or fails for want of it.
func (r *Rules) filters(name string) bool {
	key := "filter." + name + "."
	return r.config.Last(key+"smudge") != "" || r.config.Last(key+"process") != "" || r.config.Bool(key+"required")
}

// Mentions are the words in the text of attributes that can make a checkout
// change contents. Patterns and comments may have them too: what Mentions say
// is that it is worth asking git.
type Mentions struct {
	any, converts, filter bool

	end []byte // of what was written: a word may be cut in two
}

// Write takes in some text of attributes.
func (m *Mentions) Write(text []byte) (int, error) {
	m.any = m.any || len(text) > 0
	m.look(append(m.end, text[:min(len(text), longestMention)]...))
	m.look(text)
	m.end = append(m.end, text[max(0, len(text)-longestMention):]...)
	m.end = m.end[max(0, len(m.end)-longestMention):]
	return len(text), nil
}

const longestMention = len("working-tree-encoding")

func (m *Mentions) look(text []byte) {
	m.filter = m.filter || bytes.Contains(text, []byte("filter"))
	for _, word := range []string{"ident", "working-tree-encoding", "eol=crlf"} {
		m.converts = m.converts || bytes.Contains(text, []byte(word))
	}
}

// Filter tells whether the attributes of a tree, or those from outside, name a
// filter.
func (r *Rules) Filter(tree *Mentions) bool { return tree.filter || r.outside.filter }

// MayConvert tells whether a tree with these attributes may have a path whose
// contents a checkout changes.
func (r *Rules) MayConvert(tree *Mentions) bool {
	return r.auto == "true" || r.crlf && (tree.any || r.outside.any) || tree.converts || r.outside.converts ||
		r.Filter(tree) || len(r.Replaced) > 0 || r.source != ""
}
