// Package policy decides what one ref update means. It looks at nothing but
// the update and the rules, and does nothing.
package policy

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"bluegreen/internal/git"
)

// An Update is one line of a push. A zero Old creates the ref, a zero New
// deletes it.
type Update struct {
	Old, New git.OID
	Ref      string
}

// Action is what a push of a ref leads to.
type Action int

// The actions.
const (
	Store   Action = iota // git stores it and nothing else happens
	Deploy                // the commit goes into the web root
	Promote               // the traffic moves here
	Migrate               // the database moves to another version
	Refuse
)

// A Decision is what to do with an Update.
type Decision struct {
	Update
	Action Action
	Reason string // of Refuse: one line that makes sense alone
	Hint   string // what to do instead
	// Warning tells something that the pusher may not expect.
	Warning string
}

// Rules are what the configuration says.
type Rules struct {
	Branch string // what is deployed: "master"
	// Tags are patterns, for path.Match, of the tags that promote; none
	// without promotion.
	Tags []string
	// SchemaTags are patterns of the tags that migrate; none without a database.
	SchemaTags []string
}

// BranchRef returns the full name of the branch that is deployed.
func (r Rules) BranchRef() string { return "refs/heads/" + r.Branch }

// Tag tells what a ref is a tag for: Promote or Migrate, Refuse where it would be
// both, and Store where it is neither. tag is its short name.
func (r Rules) Tag(ref string) (tag string, action Action) {
	tag, isTag := strings.CutPrefix(ref, "refs/tags/")
	matches := func(patterns []string) bool {
		return isTag && slices.ContainsFunc(patterns, func(pattern string) bool {
			matches, err := path.Match(pattern, tag)
			return matches && err == nil
		})
	}
	switch promotes, migrates := matches(r.Tags), matches(r.SchemaTags); {
	case promotes && migrates:
		return tag, Refuse
	case promotes:
		return tag, Promote
	case migrates:
		return tag, Migrate
	}
	return tag, Store
}

// verb is what a tag does, for a sentence.
func (a Action) verb() string {
	if a == Migrate {
		return "migrate"
	}
	return "promote"
}

// Replaces tells whether a ref puts another object in the place of one.
func Replaces(ref string) bool { return strings.HasPrefix(ref, "refs/replace/") }

// Decide decides on the updates of one push. targets maps the refs of the push
// that are symbolic to what they point at: git would move that.
func (r Rules) Decide(updates []Update, targets map[string]string) []Decision {
	decisions := make([]Decision, len(updates))
	for i, u := range updates {
		decisions[i] = r.decide(u, targets[u.Ref])
	}
	onlyOne(decisions, Promote)
	onlyOne(decisions, Migrate)
	return decisions
}

// onlyOne refuses several decisions for one action: nobody can tell which of them
// is meant.
func onlyOne(decisions []Decision, action Action) {
	var several []*Decision
	for i := range decisions {
		if decisions[i].Action == action {
			several = append(several, &decisions[i])
		}
	}
	if len(several) < 2 {
		return
	}
	for _, d := range several {
		d.Action = Refuse
		d.Reason = fmt.Sprintf("%d tags in this push %s, and only one can", len(several), action.verb())
		d.Hint = "push one of them"
	}
}

// decide decides on one update by itself.
func (r Rules) decide(u Update, target string) Decision {
	d := Decision{Update: u}
	tag, action := r.Tag(u.Ref)
	switch {
	case Replaces(u.Ref):
		// A commit would stand for something else here than where it was made, and
		// git's own look for missing objects would go wrong from then on.
		d.Action = Refuse
		d.Reason = fmt.Sprintf("%q would change what a commit stands for here", u.Ref)
		d.Hint = "objects are replaced on the server only: git replace"
	case u.Ref != r.BranchRef() && target == r.BranchRef():
		d.Action = Refuse
		d.Reason = fmt.Sprintf("%q stands for %q here", u.Ref, r.Branch)
		d.Hint = fmt.Sprintf("push %q itself", r.Branch)
	case action != Store && target != "":
		d.Action = Refuse
		d.Reason = fmt.Sprintf("%q stands for %q here, and cannot %s", u.Ref, target, action.verb())
		d.Hint = fmt.Sprintf("remove it on the server: git symbolic-ref --delete %s", u.Ref)
	case action == Refuse && !u.New.IsZero():
		d.Action = Refuse
		d.Reason = fmt.Sprintf("%q is among promotion.tags and among database.tags", tag)
		d.Hint = "push a tag of another name, or change the patterns in bluegreen.toml"
	case action == Promote && u.New.IsZero():
		d.Action = Store
		d.Warning = fmt.Sprintf("%q is deleted, but no traffic moves: push a tag to the server that should have it", tag)
	case action == Promote:
		d.Action = Promote
	case action == Migrate && u.New.IsZero():
		d.Action = Store
		d.Warning = fmt.Sprintf("%q is deleted, but the database stays as it is: push a tag of the version that it should have", tag)
	case action == Migrate:
		d.Action = Migrate
	case u.Ref != r.BranchRef():
		d.Action = Store
	case u.New.IsZero():
		d.Action = Refuse
		d.Reason = fmt.Sprintf("%q is what is deployed here, and cannot be deleted", r.Branch)
		d.Hint = "to deploy another branch, change deploy.branch in bluegreen.toml"
	default:
		d.Action = Deploy
	}
	return d
}
