package install

import (
	"context"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

	"bluegreen/internal/install/authorized"
	"bluegreen/internal/install/host"
)

// authorizedKeys is the file that sshd reads.
func (i *Installation) authorizedKeys() string {
	a, err := i.account()
	if err != nil {
		return ""
	}
	return path.Join(a.Home, ".ssh/authorized_keys")
}

// readKeys reads the files of public keys that were named.
func (i *Installation) readKeys() ([]authorized.Key, error) {
	var keys []authorized.Key
	for _, file := range i.o.Keys {
		st, err := os.Stat(file)
		if err != nil {
			return nil, refuse("name a file such as ~/.ssh/id_ed25519.pub", "--key: %v", err)
		}
		if !st.Mode().IsRegular() || st.Size() > 1<<20 {
			return nil, refuse("name a file such as ~/.ssh/id_ed25519.pub", "--key: %q is not a public key", file)
		}
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("--key: %w", err)
		}
		found, err := authorized.ParsePublic(string(text))
		if err != nil {
			return nil, refuse("name a file such as ~/.ssh/id_ed25519.pub", "--key: %q: %v", file, err)
		}
		for _, key := range found {
			if !slices.ContainsFunc(keys, func(k authorized.Key) bool { return k.Type == key.Type && k.Data == key.Data }) {
				keys = append(keys, key)
			}
		}
	}
	return keys, nil
}

func (i *Installation) planKeys(context.Context) ([]Change, error) {
	keys, err := i.readKeys()
	if err != nil {
		return nil, err
	}
	file := i.authorizedKeys()
	d, err := i.host.Look(path.Dir(file))
	if err != nil {
		return nil, err
	}
	if d != nil && !d.Mode.IsDir() {
		return nil, refuse("make it a directory", "%s is not a directory", path.Dir(file))
	}
	e, err := i.host.Look(file)
	if err != nil {
		return nil, err
	}
	if e != nil && !e.Mode.IsRegular() {
		return nil, refuse("put the file itself there", "%s is there, and is not a regular file", file)
	}
	text := ""
	if e != nil {
		content, err := i.host.ReadFile(file)
		if err != nil {
			return nil, err
		}
		text = string(content)
	}
	i.warnOfShells(file, text, keys)
	if len(keys) == 0 && !slices.ContainsFunc(authorized.Entries(text), func(e authorized.Entry) bool { return e.IsFor(i.o.Repo) }) {
		return nil, nil
	}
	changes, err := joined(
		func() ([]Change, error) { return i.planKeysDirectory(path.Dir(file), d) },
		func() ([]Change, error) { return i.planKeysFile(file, e) },
	)
	if err != nil {
		return nil, err
	}
	for _, key := range keys {
		add, err := i.planKey(file, text, key)
		if err != nil {
			return nil, err
		}
		changes = append(changes, add...)
	}
	return changes, nil
}

// warnOfShells warns of keys that are bound to nothing: who has one can change
// all that is the account's.
func (i *Installation) warnOfShells(file, text string, keys []authorized.Key) {
	for _, e := range authorized.Entries(text) {
		bound := slices.ContainsFunc(keys, func(k authorized.Key) bool { return k.Type == e.Key.Type && k.Data == e.Key.Data })
		if !e.Forced() && !bound {
			i.warn("%s, line %d: the key %s (%s) gives a shell; give it with --key to bind it to pushes, or remove it",
				file, e.Number, e.Key.Name(), e.Key.Fingerprint())
		}
	}
}

// planKeysDirectory makes the directory root's: the account must not add keys.
// sshd takes files of root's.
func (i *Installation) planKeysDirectory(dir string, e *host.Entry) ([]Change, error) {
	if e != nil {
		return i.take(dir, e, 0o755)
	}
	return []Change{{"make the directory " + dir + " (root, 0755)", func(context.Context) error {
		if err := i.rememberMade(dir); err != nil {
			return err
		}
		return i.host.Mkdir(dir, host.Superuser(), 0o755)
	}}}, nil
}

func (i *Installation) planKeysFile(file string, e *host.Entry) ([]Change, error) {
	if e != nil {
		return i.take(file, e, 0o644)
	}
	return []Change{{"write " + file + " (root, 0644)", func(context.Context) error {
		if err := i.rememberMade(file); err != nil {
			return err
		}
		return i.host.WriteFile(file, strings.NewReader(""), host.Superuser(), 0o644)
	}}}, nil
}

// planKey plans the line of one key.
func (i *Installation) planKey(file, text string, key authorized.Key) ([]Change, error) {
	changed, replaced, err := authorized.Add(text, key, i.o.Repo)
	if err != nil {
		return nil, refuse("see "+file, "%v", err)
	}
	if changed == text {
		return nil, nil
	}
	what := fmt.Sprintf("let %s (%s) push, in %s", key.Name(), key.Fingerprint(), file)
	if replaced != "" {
		what += ", in the place of a line that gives a shell"
	}
	return []Change{{what, func(context.Context) error {
		now, err := i.host.ReadFile(file)
		if err != nil {
			return err
		}
		changed, replaced, err := authorized.Add(string(now), key, i.o.Repo)
		if err != nil {
			return err
		}
		if replaced != "" {
			if err := i.rememberKey(key, replaced); err != nil {
				return err
			}
		}
		return i.host.WriteFile(file, strings.NewReader(changed), host.Superuser(), 0o644)
	}}}, nil
}

func (i *Installation) rememberKey(key authorized.Key, line string) error {
	return i.remember(func(r *Record) {
		if r.Keys == nil {
			r.Keys = map[string]string{}
		}
		r.Keys[key.Fingerprint()] = line
	})
}
