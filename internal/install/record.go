package install

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"bluegreen/internal/install/host"
)

// A Record is what uninstall needs to know: what was there before. It is
// written before each change that it is about.
type Record struct {
	Repo string `json:"repo"`
	User string `json:"user"`
	// Web is the web server, so that the next install does not ask for another.
	Web string `json:"web"`
	// Directory is the web root, so that no other repository takes it.
	Directory string `json:"directory,omitempty"`
	// Hooks tells what the hook that was there before is called now, "" where
	// there was none.
	Hooks map[string]string `json:"hooks,omitempty"`
	// Settings tells the values of git's settings.
	Settings map[string]Setting `json:"settings,omitempty"`
	// Owners tells whose files and directories were that are root's now.
	Owners map[string]Owner `json:"owners,omitempty"`
	// Made are files and directories that were not there.
	Made []string `json:"made,omitempty"`
	// Keys has, by fingerprint, the lines of authorized_keys that ours replaced.
	Keys map[string]string `json:"keys,omitempty"`
	// Tokens has the files of tokens, with whose they were; nil for one that was
	// not there.
	Tokens map[string]*Owner `json:"tokens,omitempty"`
	// Guarded are files and directories that the last installation has left as
	// root's.
	Guarded []string `json:"guarded,omitempty"`
}

// A Setting is a key of git's configuration.
type Setting struct {
	Former []string `json:"former"` // empty where it was not set
	Set    []string `json:"set"`    // empty where it was unset
}

// An Owner is whose something was.
type Owner struct {
	UID  int         `json:"uid"`
	GID  int         `json:"gid"`
	Mode fs.FileMode `json:"mode"` // permissions
}

// RecordPath returns where the record of a repository is.
func RecordPath(repo string) string { return path.Join(recordsDir, path.Base(repo)+".json") }

// readRecord reads the record of a repository, or of another one of its name;
// nil where there is none.
func readRecord(h *host.Host, repo string) (*Record, error) {
	text, err := h.ReadFile(RecordPath(repo))
	if missing(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	r := new(Record)
	if err := json.Unmarshal(text, r); err != nil {
		return nil, fmt.Errorf("reading %q: %w", RecordPath(repo), err)
	}
	return r, nil
}

// readRecord reads the record, or begins one.
func (i *Installation) readRecord() error {
	r, err := readRecord(i.host, i.o.Repo)
	if err != nil {
		return err
	}
	if i.recorded = r != nil; !i.recorded {
		r = &Record{Repo: i.o.Repo, User: i.o.User}
	}
	if r.Repo != i.o.Repo {
		return refuse("give one of the repositories another name",
			"another repository of that name is set up here already: %q", r.Repo)
	}
	if r.User != i.o.User {
		return refuse("uninstall it first: bluegreen uninstall --repo "+i.o.Repo,
			"%s is set up for the account %s, not %s", i.o.Repo, r.User, i.o.User)
	}
	i.record = r
	return nil
}

// otherRecords returns the records of the other repositories of this host.
func otherRecords(h *host.Host, repo string) ([]*Record, error) {
	names, err := h.List(recordsDir)
	if err != nil {
		return nil, err
	}
	var others []*Record
	for _, name := range names {
		base, found := strings.CutSuffix(name, ".json")
		if !found || strings.HasPrefix(name, ".") || base == path.Base(repo) {
			continue
		}
		text, err := h.ReadFile(path.Join(recordsDir, name))
		if err != nil {
			return nil, err
		}
		r := new(Record)
		if err := json.Unmarshal(text, r); err != nil {
			return nil, fmt.Errorf("reading %q: %w", path.Join(recordsDir, name), err)
		}
		others = append(others, r)
	}
	return others, nil
}

// remember changes the record, and writes it if that makes a difference.
func (i *Installation) remember(change func(*Record)) error {
	before, err := i.record.text()
	if err != nil {
		return err
	}
	change(i.record)
	after, err := i.record.text()
	if err != nil || after == before && i.recorded {
		return err
	}
	if err := i.writeFile(RecordPath(i.o.Repo), after, host.Superuser(), 0o644); err != nil {
		return err
	}
	i.recorded = true
	return nil
}

// text is what the record's file has.
func (r *Record) text() (string, error) {
	text, err := json.MarshalIndent(r, "", "  ")
	return string(text) + "\n", err
}

func (i *Installation) planRecord(context.Context) ([]Change, error) {
	return joined(func() ([]Change, error) {
		dir := i.cfg.Deploy.Directory
		if i.recorded && i.record.Web == i.o.Web && i.record.Directory == dir {
			return nil, nil
		}
		return []Change{{"write " + RecordPath(i.o.Repo) + ", what was here before, for uninstall", func(context.Context) error {
			return i.remember(func(r *Record) { r.Web, r.Directory = i.o.Web, dir })
		}}}, nil
	}, i.makeLog)
}

// rememberOwner records whose something is before it becomes root's. What was
// made here belonged to nobody before.
func (i *Installation) rememberOwner(path string, e *host.Entry) error {
	return i.remember(func(r *Record) {
		if _, known := r.Owners[path]; known || slices.Contains(r.Made, path) && isRoot(e) {
			return
		}
		r.Made = slices.DeleteFunc(r.Made, func(made string) bool { return made == path }) // it was another one
		if r.Owners == nil {
			r.Owners = map[string]Owner{}
		}
		r.Owners[path] = Owner{e.UID, e.GID, e.Mode.Perm()}
	})
}

// rememberMade records something that is about to be made.
func (i *Installation) rememberMade(path string) error {
	return i.remember(func(r *Record) {
		if !slices.Contains(r.Made, path) {
			r.Made = append(r.Made, path)
		}
	})
}

// take plans that something of the account's becomes root's, and remembers
// whose it was. A file is written anew: whoever has it open could go on writing
// to the old one.
func (i *Installation) take(path string, e *host.Entry, perm fs.FileMode) ([]Change, error) {
	if !isRoot(e) && slices.Contains(i.record.Guarded, path) {
		return nil, i.replaced(path, e)
	}
	changes, err := i.owned(path, e, host.Superuser(), perm)
	for n, c := range changes {
		changes[n].do = func(ctx context.Context) error {
			if err := i.rememberOwner(path, e); err != nil {
				return err
			}
			if e.Mode.IsDir() {
				return c.do(ctx)
			}
			now, text, err := i.host.LookInto(path)
			if err == nil && (now == nil || !now.Mode.IsRegular()) {
				err = fmt.Errorf("%q is not a regular file any more", path)
			}
			if err != nil {
				return err
			}
			return i.host.WriteFile(path, bytes.NewReader(text), host.Superuser(), perm)
		}
	}
	return changes, err
}
