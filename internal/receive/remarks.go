package receive

import (
	"fmt"

	"bluegreen/internal/deploy"
)

// maxSaid is how many lines of what git said are shown.
const maxSaid = 20

// remarks warn of what a deployment that succeeded has not brought along.
func remarks(done *deploy.Outcome) []outcome {
	var found []outcome
	remark := func(lines []string, format string, args ...any) {
		text := fmt.Sprintf("%s is deployed, but ", done.Commit.Short()) + fmt.Sprintf(format, args...)
		found = append(found, outcome{level: warning, text: text, lines: lines})
	}
	for _, path := range done.Submodules {
		remark(nil, "the submodule %q is an empty directory: its files are not part of the push", path)
	}
	switch n := len(done.Pointers); {
	case n == 1:
		remark(nil, "%q is a pointer of Git LFS, not the file: git-lfs is not set up on this server", done.Pointers[0])
	case n > 1:
		remark(nil, "%q and %s are pointers of Git LFS, not the files: git-lfs is not set up on this server",
			done.Pointers[0], count(n-1, "other"))
	}
	if said := done.Said; len(said) > 0 {
		last := min(len(said), maxSaid)
		remark(said[1:last], "while git converted contents it said: %s", said[0])
	}
	return found
}
