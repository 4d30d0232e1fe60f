// Package policy decides what one ref update means. It looks at nothing but
// the update and the rules, and does nothing.
package policy

import (
	"fmt"

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
	Store  Action = iota // git stores it and nothing else happens
	Deploy               // the commit goes into the web root
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
}

// BranchRef returns the full name of the branch that is deployed.
func (r Rules) BranchRef() string { return "refs/heads/" + r.Branch }

// Decide decides on one update. target is the ref that u.Ref points at, if it
// is symbolic: git would move that one.
func (r Rules) Decide(u Update, target string) Decision {
	d := Decision{Update: u}
	switch {
	case u.Ref != r.BranchRef() && target == r.BranchRef():
		d.Action = Refuse
		d.Reason = fmt.Sprintf("%q stands for %q here", u.Ref, r.Branch)
		d.Hint = fmt.Sprintf("push %q itself", r.Branch)
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
