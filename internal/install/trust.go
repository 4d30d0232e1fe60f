package install

import (
	"context"
	"fmt"
	"path"
	"slices"

	"bluegreen/internal/install/host"
)

// The account owns its home and the repository. So it can rename what is
// root's there, and put something of its own in its place. install therefore
// notes what it leaves as root's, and refuses to go on where that has changed.

// guarded are what says what root does here, and who may come in.
func (i *Installation) guarded() []string {
	keys := i.authorizedKeys()
	return []string{i.configPath(), i.hooksDir(), path.Dir(keys), keys}
}

// checkGuarded refuses what an earlier installation has left as root's, and is
// not root's any more.
func (i *Installation) checkGuarded() error {
	for _, file := range i.record.Guarded {
		e, err := i.host.Look(file)
		if err != nil {
			return err
		}
		if e == nil || isRoot(e) {
			continue
		}
		return i.replaced(file, e)
	}
	return nil
}

func (i *Installation) replaced(file string, e *host.Entry) error {
	return refuse(lookAt(file, e), "%s was root's alone after install, and is not any more (%s, %v): somebody has put it there since",
		file, i.host.NameOf(e.UID), e.Mode)
}

// lookAt tells how to take something as it is. A file is copied before it is
// looked at: who has it open could change it afterwards.
func lookAt(file string, e *host.Entry) string {
	copied := path.Join("/root", path.Base(file))
	switch {
	case e.Mode.IsDir():
		return fmt.Sprintf("look at what is in it, then: chown root: %s && chmod 755 %s", file, file)
	case e.Mode.IsRegular():
		return fmt.Sprintf("look at it, then put what you saw there: cp %s %s && less %s && install -m 644 %s %s", file, copied, copied, copied, file)
	}
	return "look at where it came from, remove it, then run this again"
}

// planGuard notes what is root's at the end. Only a run that ends does so: one
// that was interrupted may have told nobody to look at what it has taken.
func (i *Installation) planGuard(context.Context) ([]Change, error) {
	for _, file := range i.guarded() {
		e, err := i.host.Look(file)
		if err != nil {
			return nil, err
		}
		always := file == i.configPath() || file == i.hooksDir()
		if slices.Contains(i.record.Guarded, file) || !always && (e == nil || !isRoot(e)) {
			continue
		}
		return []Change{{"write " + RecordPath(i.o.Repo) + ", what is root's here now", i.rememberGuarded}}, nil
	}
	return nil, nil
}

func (i *Installation) rememberGuarded(context.Context) error {
	var found []string
	for _, file := range i.guarded() {
		e, err := i.host.Look(file)
		if err != nil {
			return err
		}
		if e != nil && isRoot(e) {
			found = append(found, file)
		}
	}
	return i.remember(func(r *Record) { r.Guarded = found })
}

// trusts tells whether root may do what the configuration asks for: it is
// root's, and has not just been taken from the account, which no operator may
// have looked at.
func (i *Installation) trusts(e *host.Entry) bool {
	file := i.configPath()
	_, taken := i.record.Owners[file]
	return isRoot(e) && (!taken || slices.Contains(i.record.Guarded, file))
}
