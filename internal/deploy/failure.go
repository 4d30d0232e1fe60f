package deploy

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"bluegreen/internal/fault"
	"bluegreen/internal/journal"
	"bluegreen/internal/lock"
)

// A Failure is a deployment that did not take place: the web root and the refs
// are as they were.
type Failure struct {
	Reason string   // one line that makes sense alone
	Lines  []string // what a command or a check said
	Hint   string   // what to do next, may be empty
	// Refused tells that policy or circumstances forbade it; otherwise it was
	// tried.
	Refused bool
}

func (f *Failure) Error() string { return f.Reason }

// Unknown is the outcome of a deployment that could neither be finished nor
// undone. The journal stays: recovery tries again.
type Unknown struct {
	Reason string
	Err    error
	Hint   string // what to do next, may be empty
}

func (u *Unknown) Error() string { return fmt.Sprintf("%s: %v", u.Reason, u.Err) }

func (u *Unknown) Unwrap() error { return u.Err }

// oneLine makes an error fit a status line: git's messages may have several.
func oneLine(err error) string {
	return strings.Join(strings.FieldsFunc(err.Error(), func(r rune) bool { return r == '\n' || r == '\r' }), "; ")
}

// goBack undoes the activation because of cause, which it returns.
func (r *run) goBack(ctx context.Context, cause error) error {
	if isUnknown(cause) {
		return cause
	}
	r.enter("undoing")
	ctx = context.WithoutCancel(ctx)
	if r.promotion != nil {
		if cause = r.promotion.giveBack(ctx, cause); isUnknown(cause) {
			return cause // the traffic may be here: what it gets must stay
		}
	}
	if err := r.Journal.Undo(); err != nil {
		r.Observe(Notice{Kind: Warning, Text: err.Error()}) // going back matters more
	}
	fault.Step("undoing")
	if !r.switched() {
		if err := r.unmark(ctx, r.Worktree, &r.deployed, r.held); err != nil {
			r.Observe(Notice{Kind: Warning, Text: oneLine(err)})
		}
	}
	if err := r.change.Undo(); err != nil {
		return &Unknown{Reason: cause.Error() + "; and the web root could not go back", Err: err}
	}
	r.FindLive()
	if err := r.mark(r.Worktree, r.held); err != nil {
		r.Observe(Notice{Kind: Warning, Text: oneLine(err)})
	}
	var failure *Failure
	if errors.As(cause, &failure) && failure.Hint == "" && !r.event.Previous.IsZero() && !r.request.RefMoved {
		failure.Hint = fmt.Sprintf("%s holds %s again; push again when it is mended", r.Worktree.Dir, r.event.Previous.Short())
	}
	if err := r.runCommands(ctx, "rolled-back"); err != nil {
		r.Observe(Notice{Kind: Warning, Text: err.Error()})
	}
	return r.forget(cause)
}

// abandon is goBack before anything was activated.
func (r *run) abandon(cause error) error {
	return r.forget(&Failure{Reason: oneLine(cause)})
}

// forget ends the transaction of a deployment that has been undone, after that is in
// the history: once it has ended nobody would know of it.
func (r *run) forget(cause error) error {
	r.record(cause)
	if err := r.Journal.End(); err != nil {
		r.Observe(Notice{Kind: Warning, Text: err.Error()})
		return cause // recovery finds nothing to undo, and ends it
	}
	if err := r.change.Discard(); err != nil {
		r.Observe(Notice{Kind: Warning, Text: err.Error()})
	}
	return cause
}

// record writes a deployment that failed into the history, once. One whose outcome
// is unknown, once it has begun, is recorded by the recovery that decides it.
func (r *run) record(cause error) error {
	if r.recorded || isUnknown(cause) && r.journal != nil {
		return cause
	}
	r.recorded = true
	r.enter("finishing")
	r.event.Result, r.event.Reason = resultOf(cause), cause.Error()
	r.took()
	if err := r.Journal.Append(r.event); err != nil {
		r.Observe(Notice{Kind: Warning, Text: err.Error()})
	}
	return cause
}

// resultOf is what the history says of an error.
func resultOf(err error) string {
	var failure *Failure
	var busy *lock.Busy
	if errors.As(err, &failure) && failure.Refused || errors.As(err, &busy) {
		return journal.Refused
	}
	return journal.Failed
}

func isUnknown(err error) bool {
	var unknown *Unknown
	return errors.As(err, &unknown)
}
