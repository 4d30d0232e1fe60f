package policy

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"bluegreen/internal/git"
)

// FuzzDecide holds what no push may lead to, whatever its refs are called and
// whatever patterns the configuration has.
func FuzzDecide(f *testing.F) {
	f.Add("refs/heads/master\nrefs/tags/release-1\nrefs/tags/schema-2", "release-*", "schema-*", "master", uint16(0), "")
	f.Add("refs/tags/a\nrefs/tags/b", "*", "[ab", "refs/tags/a", uint16(0b10), "refs/heads/refs/tags/a")
	f.Add("refs/replace/1111111111111111111111111111111111111111\nrefs/heads/other", "", "*", "", uint16(0b11), "refs/heads/")
	f.Fuzz(func(t *testing.T, refs, tags, schemaTags, branch string, deletes uint16, target string) {
		rules := Rules{Branch: branch, Tags: []string{tags}, SchemaTags: []string{schemaTags}}
		var updates []Update
		for i, ref := range strings.Split(refs, "\n") {
			u := Update{Ref: ref}
			if deletes>>(i%16)&1 == 0 {
				u.New = git.OIDFromBytes(bytes.Repeat([]byte{1}, 20))
			}
			updates = append(updates, u)
		}
		targets := map[string]string{updates[0].Ref: target}
		decisions := rules.Decide(updates, targets)
		if len(decisions) != len(updates) {
			t.Fatalf("%d decisions on %d updates", len(decisions), len(updates))
		}
		count := map[Action]int{}
		for i, d := range decisions {
			if d.Update != updates[i] {
				t.Fatalf("a decision on %+v where %+v was asked for", d.Update, updates[i])
			}
			if problem := unfounded(rules, d, targets[d.Ref]); problem != "" {
				t.Errorf("%+v: %s; rules %+v, target %q", d, problem, rules, targets[d.Ref])
			}
			count[d.Action]++
		}
		if count[Promote] > 1 || count[Migrate] > 1 {
			t.Errorf("one push promotes %d times and migrates %d times", count[Promote], count[Migrate])
		}
		slices.Reverse(updates)
		again := rules.Decide(updates, targets)
		slices.Reverse(again)
		if !slices.Equal(again, decisions) {
			t.Errorf("the order decides: %+v, and %+v", decisions, again)
		}
	})
}

// unfounded tells what is wrong with a decision, "" where nothing is.
func unfounded(rules Rules, d Decision, target string) string {
	tag := strings.HasPrefix(d.Ref, "refs/tags/")
	switch {
	case (d.Action == Refuse) != (d.Reason != "" && d.Hint != ""):
		return "a refusal has a reason and a hint, and nothing else has"
	case (d.Action == Deploy || d.Action == Promote || d.Action == Migrate) && d.New.IsZero():
		return "a deletion has an effect"
	case d.Action == Deploy && d.Ref != rules.BranchRef():
		return "another ref than the branch is deployed"
	case (d.Action == Promote || d.Action == Migrate) && (!tag || target != ""):
		return "what is no plain tag has the effect of one"
	case d.Action == Store && d.Ref != rules.BranchRef() && target == rules.BranchRef():
		return "the branch moves in disguise"
	case d.Action == Store && d.Ref == rules.BranchRef():
		return "the branch moves, and is not deployed"
	case d.Action != Refuse && Replaces(d.Ref):
		return "an object is replaced"
	}
	return ""
}
