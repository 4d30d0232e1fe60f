package tree

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
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
		if err := checkGitFile(e); err != nil {
			return err
		}
	}
	return nil
}

// checkGitFile refuses what is not a file under the name of one that git reads by
// itself: git's own strict check does, too.
func checkGitFile(e Entry) error {
	if e.Mode == File || e.Mode == Executable {
		return nil
	}
	modules := disguises(e.Name, ".gitmodules", "gitmod", "gi7eba")
	switch {
	case e.Mode == Symlink && modules:
		return fmt.Errorf("%q is a symlink", e.Name)
	case e.Mode != Symlink && (modules || disguises(e.Name, ".gitattributes", "gitatt", "gi7d29")):
		return fmt.Errorf("%q is not a file", e.Name)
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
	case disguises(name, ".git", "git", ""):
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
// knows alternate streams behind a colon, and gives short names such as git~1 or,
// when there are many alike, of a hash.
func disguises(name, dotted, short, hashed string) bool {
	if foldHFS(name) == dotted {
		return true
	}
	ntfs, _, _ := strings.Cut(strings.ToLower(name), ":")
	ntfs = strings.TrimRight(ntfs, ". ")
	if ntfs == dotted {
		return true
	}
	stem, number, _ := strings.Cut(ntfs, "~")
	if number == "" || number[0] < '1' || strings.Trim(number, "0123456789") != "" {
		return false
	}
	if stem == short {
		return len(number) == 1 && number <= "4" && (short != "git" || number == "1")
	}
	return hashed != "" && len(ntfs) == 8 && strings.HasPrefix(hashed, stem)
}

// foldHFS is what HFS+ compares names by. It ends at what is not a character for
// git, which takes that for the end of the name.
func foldHFS(name string) string {
	var folded strings.Builder
	for i, r := range name {
		if r == utf8.RuneError && !strings.HasPrefix(name[i:], "\ufffd") || r&0xfffe == 0xfffe {
			break
		}
		if !ignoredByHFS(r) {
			folded.WriteRune(unicode.ToLower(r))
		}
	}
	return folded.String()
}

// ignoredByHFS lists the code points that HFS+ leaves out when it compares
// names, as git's utf8.c has them.
func ignoredByHFS(r rune) bool {
	return r >= 0x200c && r <= 0x200f || r >= 0x202a && r <= 0x202e ||
		r >= 0x206a && r <= 0x206f || r == 0xfeff
}
