package tree

import (
	"fmt"
	"strings"
)

// What Linux can hold: one name, one path, and git's own habit of depth.
const (
	maxName  = 255
	maxPath  = 4095
	maxDepth = 100
)

// Check refuses entries that must not be written: names that leave the
// directory or that some filesystem takes for another name, two entries of one
// name, a wrong order (which hides entries from a merge).
func Check(entries []Entry) error {
	for i, e := range entries {
		if err := checkName(e.Name); err != nil {
			return err
		}
		// In order, a file and a directory of one name have only names between
		// them that begin with it.
		for j := i - 1; j >= 0 && strings.HasPrefix(entries[j].Name, e.Name); j-- {
			if entries[j].Name == e.Name {
				return fmt.Errorf("%q is there twice", e.Name)
			}
		}
		if i > 0 && compareEntries(entries[i-1], e) >= 0 {
			return fmt.Errorf("%q is out of order", e.Name)
		}
		if e.OID.IsZero() {
			return fmt.Errorf("%q names no object", e.Name)
		}
		if e.Mode == Symlink && disguises(e.Name, ".gitmodules", "gitmod") {
			return fmt.Errorf("%q is a symlink", e.Name)
		}
	}
	return nil
}

func checkName(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("an entry has no name")
	case name == "." || name == "..":
		return fmt.Errorf("%q leaves its directory", name)
	case len(name) > maxName:
		return fmt.Errorf("%q is longer than %d bytes", name[:32]+"…", maxName)
	case strings.ContainsAny(name, `/\`):
		return fmt.Errorf("%q has a slash in its name", name)
	case disguises(name, ".git", "git"):
		return fmt.Errorf("%q is a name of git's own", name)
	}
	for i := range len(name) {
		if name[i] < 0x20 || name[i] == 0x7f {
			return fmt.Errorf("%q has a control character in its name", name)
		}
	}
	return nil
}

// disguises tells whether a filesystem may take name for the dotted name: HFS+
// ignores some code points and case, NTFS ignores trailing dots and spaces,
// knows alternate streams behind a colon, and gives short names such as git~1.
func disguises(name, dotted, short string) bool {
	plain := strings.ToLower(strings.Map(func(r rune) rune {
		if ignoredByHFS(r) {
			return -1
		}
		return r
	}, name))
	if plain == dotted {
		return true
	}
	ntfs := strings.ToLower(name)
	stem, _, stream := strings.Cut(ntfs, ":")
	if stream {
		ntfs = stem
	}
	ntfs = strings.TrimRight(ntfs, ". ")
	if ntfs == dotted {
		return true
	}
	number, tilde := strings.CutPrefix(ntfs, short+"~")
	return tilde && len(number) == 1 && number >= "1" && number <= "4" && (short != "git" || number == "1")
}

// ignoredByHFS lists the code points that HFS+ leaves out when it compares
// names, as git's utf8.c has them.
func ignoredByHFS(r rune) bool {
	return r >= 0x200c && r <= 0x200f || r >= 0x202a && r <= 0x202e ||
		r >= 0x206a && r <= 0x206f || r == 0xfeff
}
