package deploy

import (
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// layers lists which of our packages each one may import, outside of tests.
// Imports go downwards only: hooks and operator, receive, deploy, then what
// does the work, then git, then the leaves.
var layers = map[string][]string{
	"hooks/pre-receive":           {"internal/receive"},
	"hooks/proc-receive":          {"internal/receive"},
	"hooks/post-receive":          {"internal/receive"},
	"install/bluegreen":           {"internal/operator"},
	"examples/bench":              {},
	"examples/demo":               {"internal/simulator"},
	"internal/operator":           {"internal/broker", "internal/command", "internal/config", "internal/console", "internal/deploy", "internal/digitalocean", "internal/doctor", "internal/environment", "internal/forced", "internal/git", "internal/health", "internal/install", "internal/journal", "internal/lock", "internal/profile", "internal/receive", "internal/version", "internal/worktree"},
	"internal/install":            {"install", "internal/broker", "internal/command", "internal/config", "internal/digitalocean", "internal/index", "internal/install/authorized", "internal/install/host", "internal/install/sudoers", "internal/lock"},
	"internal/install/host":       {"internal/command", "internal/durable"},
	"internal/doctor":             {"internal/broker", "internal/command", "internal/deploy", "internal/digitalocean", "internal/environment", "internal/git", "internal/health", "internal/install", "internal/install/authorized", "internal/install/host", "internal/install/sudoers", "internal/journal", "internal/lock", "internal/promotion", "internal/release", "internal/version"},
	"internal/receive":            {"internal/command", "internal/console", "internal/deploy", "internal/environment", "internal/git", "internal/journal", "internal/lock", "internal/policy", "internal/profile", "internal/schema", "internal/version", "internal/worktree"},
	"internal/environment":        {"internal/broker", "internal/config", "internal/confine", "internal/deploy", "internal/digitalocean", "internal/git", "internal/health", "internal/journal", "internal/peer", "internal/policy", "internal/promotion", "internal/release", "internal/schema", "internal/worktree"},
	"internal/deploy":             {"internal/command", "internal/durable", "internal/fault", "internal/git", "internal/health", "internal/journal", "internal/lock", "internal/peer", "internal/promotion", "internal/release", "internal/schema", "internal/tree", "internal/worktree"},
	"internal/release":            {"internal/durable", "internal/fault", "internal/git", "internal/index", "internal/tree", "internal/worktree"},
	"internal/broker":             {"internal/command", "internal/promotion"},
	"internal/digitalocean":       {"internal/promotion", "internal/version"},
	"internal/promotion":          {"internal/command", "internal/fault"},
	"internal/simulator":          {},
	"internal/forced":             {},
	"install":                     {},
	"internal/install/authorized": {},
	"internal/install/sudoers":    {},
	"internal/journal":            {"internal/durable", "internal/git", "internal/worktree"},
	"internal/worktree":           {"internal/durable", "internal/fault", "internal/git", "internal/index", "internal/literal", "internal/tree"},
	"internal/index":              {"internal/git", "internal/tree"},
	"internal/health":             {"internal/command"},
	"internal/schema":             {"internal/command"},
	"internal/peer":               {"internal/git", "internal/schema"},
	"internal/policy":             {"internal/git"},
	"internal/tree":               {"internal/git"},
	"internal/command":            {},
	"internal/config":             {},
	"internal/confine":            {},
	"internal/console":            {},
	"internal/durable":            {},
	"internal/fault":              {},
	"internal/git":                {"internal/inflate", "internal/literal"},
	"internal/gittest":            {},
	"internal/inflate":            {},
	"internal/literal":            {},
	"internal/lock":               {},
	"internal/profile":            {},
	"internal/version":            {},
}

// doors lists the modules of others that only some packages may import.
var doors = map[string][]string{
	"github.com/BurntSushi/toml":          {"internal/config"},
	"github.com/go-git/go-git/v5":         {"internal/receive"},
	"github.com/go-git/go-billy/v5":       {},
	"github.com/landlock-lsm/go-landlock": {"internal/confine"},
	"github.com/spf13/cobra":              {"internal/operator"},
	"github.com/digitalocean/godo":        {"internal/digitalocean"},
	"github.com/getkin/kin-openapi":       {},
	"github.com/hashicorp/hcl/v2":         {},
	"github.com/oasdiff/yaml3":            {},
	"github.com/rogpeppe/go-internal":     {},
	"github.com/zclconf/go-cty":           {},
	"net/http":                            {"internal/digitalocean", "internal/doctor", "internal/health", "internal/peer", "internal/simulator", "examples/demo"},
	"runtime/pprof":                       {"internal/profile"},
	"testing":                             {"internal/gittest"},
}

// TestImports holds the direction of imports. A new edge is a decision: it goes
// into the table with the change that needs it.
func TestImports(t *testing.T) {
	t.Parallel()
	imports := importsBelow(t, "../..", "hooks", "install", "internal", "examples")
	for pkg, paths := range imports {
		allowed, known := layers[pkg]
		if !known {
			t.Errorf("package %s is not in the table", pkg)
			continue
		}
		var ours []string
		for _, path := range paths {
			if internal, ok := strings.CutPrefix(path, "bluegreen/"); ok {
				ours = append(ours, internal)
			}
			for module, users := range doors {
				if (path == module || strings.HasPrefix(path, module+"/")) && !slices.Contains(users, pkg) && door(path) == module {
					t.Errorf("%s imports %s, which only %q may", pkg, path, users)
				}
			}
		}
		for _, path := range ours {
			if !slices.Contains(allowed, path) {
				t.Errorf("%s imports %s, which the table does not allow", pkg, path)
			}
		}
		for _, path := range allowed {
			if !slices.Contains(ours, path) {
				t.Errorf("the table allows %s to import %s, which it does not: take it out", pkg, path)
			}
		}
	}
	for pkg := range layers {
		if imports[pkg] == nil {
			t.Errorf("the table has %s, which is not there", pkg)
		}
	}
}

// door is the longest of the doors that path goes through.
func door(path string) string {
	longest := ""
	for module := range doors {
		if (path == module || strings.HasPrefix(path, module+"/")) && len(module) > len(longest) {
			longest = module
		}
	}
	return longest
}

// TestLayers holds the table itself to the rules that it is to express.
func TestLayers(t *testing.T) {
	t.Parallel()
	for pkg, imports := range layers {
		for _, path := range imports {
			switch {
			case strings.HasPrefix(path, "hooks/") || strings.HasPrefix(path, "install/"):
				t.Errorf("%s may import a program, %s", pkg, path)
			case path == "internal/operator" && pkg != "install/bluegreen":
				t.Errorf("%s may import the operator's command", pkg)
			case path == "internal/config" && pkg != "internal/environment" && pkg != "internal/operator" && pkg != "internal/install":
				t.Errorf("%s may import config: it gets ready values", pkg)
			case path == "internal/console" && pkg != "internal/receive" && pkg != "internal/operator":
				t.Errorf("%s may print", pkg)
			case path == "internal/gittest":
				t.Errorf("%s may import what is for tests", pkg)
			}
		}
	}
	height := map[string]int{}
	var measure func(pkg string, above []string) int
	measure = func(pkg string, above []string) int {
		if slices.Contains(above, pkg) {
			t.Fatalf("%s imports itself: %q", pkg, above)
		}
		for _, path := range layers[pkg] {
			height[pkg] = max(height[pkg], measure(path, append(above, pkg))+1)
		}
		return height[pkg]
	}
	for _, pkg := range slices.Sorted(maps.Keys(layers)) {
		measure(pkg, nil)
	}
	for _, leaf := range []string{"command", "config", "console", "durable", "fault", "inflate", "literal", "lock", "version"} {
		if height["internal/"+leaf] != 0 {
			t.Errorf("%s is no leaf", leaf)
		}
	}
}

// importsBelow maps each package below the directories to its imports outside
// of tests, whatever the build tags.
func importsBelow(t *testing.T, root string, dirs ...string) map[string][]string {
	t.Helper()
	imports := map[string][]string{}
	for _, dir := range dirs {
		err := filepath.WalkDir(filepath.Join(root, dir), func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if d.IsDir() && d.Name() == "testdata" {
				return filepath.SkipDir
			}
			if d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return nil
			}
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
			if err != nil {
				return err
			}
			pkg, err := filepath.Rel(root, filepath.Dir(path))
			if err != nil {
				return err
			}
			pkg = filepath.ToSlash(pkg)
			if imports[pkg] == nil {
				imports[pkg] = []string{}
			}
			for _, spec := range file.Imports {
				imported, err := strconv.Unquote(spec.Path.Value)
				if err != nil {
					return err
				}
				imports[pkg] = append(imports[pkg], imported)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return imports
}
