package tree

import (
	"fmt"
	"strings"

	"bluegreen/internal/git"
)

// maxLinks is how many symlinks the kernel follows in one path.
const maxLinks = 40

// A Link is a symlink and the tree's path that it stands at.
type Link struct {
	Path string
	OID  git.OID
}

// Links lists every symlink below the tree root.
func Links(objects Objects, root git.OID) ([]Link, error) {
	var links []Link
	d := &diff{objects: objects}
	var walk func(dir string, oid git.OID) error
	walk = func(dir string, oid git.OID) error {
		entries, err := d.read(dir, oid, false)
		if err != nil {
			return err
		}
		for _, e := range entries {
			switch e.Mode {
			case Symlink:
				links = append(links, Link{Path: dir + e.Name, OID: e.OID})
			case Directory:
				if err := walk(dir+e.Name+"/", e.OID); err != nil {
					return err
				}
			}
		}
		return nil
	}
	return links, walk("", root)
}

// CheckLinks refuses symlinks of the tree root that lead outside it: absolute
// ones, ones with too many "..", ones that another symlink of the tree bends
// outside, loops.
//
// A symlink that did not change can come to lead outside when another one is
// added or changed. It cannot when files and directories change, because its
// target must stay inside also when it is read as plain text.
func CheckLinks(objects Objects, root git.OID, links []Link) error {
	r := &resolver{objects: objects, root: root, dirs: map[git.OID]map[string]Item{}}
	for _, link := range links {
		if err := r.check(link); err != nil {
			return fmt.Errorf("symlink %q %w", link.Path, err)
		}
	}
	return nil
}

type resolver struct {
	objects Objects
	root    git.OID
	dirs    map[git.OID]map[string]Item
}

func (r *resolver) check(link Link) error {
	target, err := r.target(link.OID)
	if err != nil {
		return err
	}
	dir := strings.Split(link.Path, "/")
	dir = dir[:len(dir)-1]
	depth := len(dir)
	for _, part := range strings.Split(target, "/") {
		switch part {
		case "", ".":
		case "..":
			if depth--; depth < 0 {
				return fmt.Errorf("leaves the tree: %q", target)
			}
		default:
			depth++
		}
	}
	return r.follow(dir, target)
}

// target reads where a symlink leads and checks what needs no other object.
func (r *resolver) target(oid git.OID) (string, error) {
	kind, data, err := r.objects.Read(oid)
	switch target := string(data); {
	case err != nil:
		return "", fmt.Errorf("cannot be read: %w", err)
	case kind != "blob":
		return "", fmt.Errorf("is a %s", kind)
	case target == "":
		return "", fmt.Errorf("has no target")
	case len(target) > maxPath:
		return "", fmt.Errorf("has a target longer than %d bytes", maxPath)
	case strings.Contains(target, "\x00"):
		return "", fmt.Errorf("has a target with a NUL byte")
	case strings.HasPrefix(target, "/"):
		return "", fmt.Errorf("leads outside the tree: %q", target)
	default:
		return target, nil
	}
}

// follow walks target from dir as the kernel would, through the tree's other
// symlinks. A name that does not exist is taken for a directory.
func (r *resolver) follow(dir []string, target string) error {
	at := append([]string{}, dir...)
	todo := strings.Split(target, "/")
	for followed := 0; len(todo) > 0; {
		part := todo[0]
		todo = todo[1:]
		switch part {
		case "", ".":
			continue
		case "..":
			if len(at) == 0 {
				return fmt.Errorf("leaves the tree through another symlink: %q", target)
			}
			at = at[:len(at)-1]
			continue
		}
		at = append(at, part)
		item, err := r.lookup(at)
		if err != nil {
			return err
		}
		if item.Mode != Symlink {
			continue
		}
		if followed++; followed > maxLinks {
			return fmt.Errorf("leads in a circle: %q", target)
		}
		next, err := r.target(item.OID)
		if err != nil {
			return err
		}
		at = at[:len(at)-1]
		todo = append(strings.Split(next, "/"), todo...)
	}
	return nil
}

// lookup finds a path in the tree; the zero Item where there is none.
func (r *resolver) lookup(path []string) (Item, error) {
	item := Item{Mode: Directory, OID: r.root}
	for _, name := range path {
		if item.Mode != Directory {
			return Item{}, nil
		}
		dir, known := r.dirs[item.OID]
		if !known {
			entries, err := (&diff{objects: r.objects}).read("", item.OID, false)
			if err != nil {
				return Item{}, err
			}
			dir = make(map[string]Item, len(entries))
			for _, e := range entries {
				dir[e.Name] = e.Item
			}
			r.dirs[item.OID] = dir
		}
		item = dir[name]
	}
	return item, nil
}
