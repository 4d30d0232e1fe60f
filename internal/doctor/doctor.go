// Package doctor examines a server: the repository, the hooks, the web root,
// the machine around them and the promotion. Each thing that it finds comes
// with the command that mends it. Examining writes nothing.
package doctor

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"bluegreen/internal/deploy"
	"bluegreen/internal/environment"
	"bluegreen/internal/git"
	"bluegreen/internal/journal"
)

// A Level says how bad a finding is.
type Level string

// The levels. Something broken makes pushes, promotions or recoveries fail, or
// do something else than they say; a warning is a risk, or a loss of comfort.
const (
	OK      Level = "ok"
	Warning Level = "warning"
	Broken  Level = "broken"
)

// A Finding is one thing that was looked at. Its texts may hold names from
// files, servers and the repository: escape them before printing.
type Finding struct {
	Check string `json:"check"` // what was examined: "hooks", "web root"
	Level Level  `json:"level"`
	Text  string `json:"text"` // one sentence that makes sense alone
	// Fix is the command that mends it, for the shell of who asks, or what to
	// do in one line; "" where nothing is to be done.
	Fix string `json:"fix"`
	// Fixable tells that Mend does it.
	Fixable bool `json:"fixable"`

	mend func(context.Context) error
}

// by makes a finding one that Mend can mend.
func (f Finding) by(mend func(context.Context) error) Finding {
	f.mend, f.Fixable = mend, true
	return f
}

func ok(format string, args ...any) []Finding {
	return []Finding{{Level: OK, Text: fmt.Sprintf(format, args...)}}
}

func warning(fix, format string, args ...any) Finding {
	return Finding{Level: Warning, Fix: fix, Text: fmt.Sprintf(format, args...)}
}

func broken(fix, format string, args ...any) Finding {
	return Finding{Level: Broken, Fix: fix, Text: fmt.Sprintf(format, args...)}
}

// or gives findings, or else one that all is well.
func or(findings []Finding, format string, args ...any) []Finding {
	if len(findings) > 0 {
		return findings
	}
	return ok(format, args...)
}

// Options say what to examine.
type Options struct {
	Repo string // the bare repository's directory
	Host Host
	// Recover finishes or undoes what a crash interrupted; nil where Mend must
	// not do so.
	Recover func(context.Context) error
	// Patience is how long one check may take; 0 is 20 s.
	Patience time.Duration
}

// A Report is what an examination has found.
type Report struct {
	Repository    string    `json:"repository"`
	Environment   string    `json:"environment"` // "" where the configuration is broken
	Findings      []Finding `json:"findings"`    // in the order of the checks
	Misconfigured bool      `json:"-"`           // the configuration itself is broken
}

// Count returns how many findings have the level.
func (r *Report) Count(level Level) (n int) {
	for _, f := range r.Findings {
		if f.Level == level {
			n++
		}
	}
	return n
}

// An exam is one examination. Its checks run at once, and only read it.
type exam struct {
	Options
	repo    *git.Repository
	config  git.Config // nil where git cannot read it
	gitErr  error      // why config is nil
	hooks   string     // where git looks for hooks
	env     *environment.Environment
	envErr  error // why env is nil
	owner   int   // whose the repository is
	account Account
	mounts  []mount
}

// A check is one part of an examination.
type check struct {
	name string
	ask  func(context.Context) []Finding
}

// Examine examines a server. Each check has a deadline of its own. The error is
// for a directory that is no git repository at all.
func Examine(ctx context.Context, o Options) (*Report, error) {
	if o.Patience == 0 {
		o.Patience = 20 * time.Second
	}
	type opened struct {
		exam *exam
		err  error
	}
	first, answered := within(ctx, o.Patience, func(ctx context.Context) opened {
		x, err := open(ctx, o)
		return opened{x, err}
	})
	switch {
	case !answered:
		return nil, fmt.Errorf("the repository %q could not be opened within %s", o.Repo, o.Patience)
	case first.err != nil:
		return nil, first.err
	}
	x := first.exam
	r := &Report{Repository: x.repo.Dir, Misconfigured: x.envErr != nil}
	if x.env != nil {
		r.Environment = x.env.Name
	}
	r.Findings = x.run(ctx, x.checks())
	return r, nil
}

// open reads what most checks need. Where the configuration is broken, those
// that do not depend on it go on.
func open(ctx context.Context, o Options) (*exam, error) {
	repo, err := git.Open(o.Repo, o.Host.Environ)
	if err != nil {
		return nil, err
	}
	x := &exam{Options: o, repo: repo, hooks: filepath.Join(repo.Dir, "hooks")}
	if x.owner, err = owner(repo.Dir); err != nil {
		return nil, err
	}
	if x.account, err = o.Host.Account(x.owner); err != nil {
		x.account = Account{Name: fmt.Sprintf("#%d", x.owner)} // as sudo takes it
	}
	if x.config, err = repo.Config(ctx); err != nil {
		x.gitErr = err
	} else if dir, err := repo.HooksDir(ctx); err == nil {
		x.hooks = dir
	}
	x.env, x.envErr = environment.Open(repo.Dir, o.Host.Environ, func(deploy.Notice) {})
	x.mounts = readMounts(o.Host.system("/proc/self/mountinfo"))
	return x, nil
}

// checks lists what is examined, in the order in which it is reported. What only
// the repository's account may see or do nobody else is asked about.
func (x *exam) checks() []check {
	all := []check{
		{"configuration", x.configuration}, {"repository", x.repository}, {"git", x.gitVersion},
		{"hooks", x.hookPrograms}, {"programs", x.programs},
	}
	add := func(c ...check) { all = append(all, c...) }
	stranger := x.stranger()
	if x.config != nil {
		add(check{"settings", x.settings})
	}
	if x.env != nil {
		add(check{"head", x.head}, check{"web root", x.webRoot}, check{"space", x.space}, check{"private /tmp", x.privateTmp})
		if !stranger {
			add(check{"state", x.state}, check{"health", x.health})
			if x.env.Database != nil {
				add(check{"database", x.database})
			}
		}
		if len(x.env.Peers) > 0 || x.env.Database != nil {
			add(check{"peers", x.peers})
		}
		if p := x.env.Config.Promotion; p != nil {
			if p.Provider == "digitalocean" {
				add(check{"clock", x.clock}, check{"metadata", x.metadata}, check{"broker", x.broker}, check{"token", x.token})
			}
			if !stranger {
				add(check{"promotion", x.promotion}, check{"outside", x.outside})
			}
			add(check{"signers", x.signers})
		}
		if !stranger {
			add(check{"sudo", x.sudo})
		}
		add(check{"confinement", x.confinement})
	}
	add(check{"boot", x.boot}, check{"keys", x.keys})
	return all
}

// run runs all checks at once, and gives what they found in their order.
func (x *exam) run(ctx context.Context, checks []check) []Finding {
	answers := make([]chan []Finding, len(checks))
	for i, c := range checks {
		answers[i] = make(chan []Finding, 1)
		go func() {
			found, answered := within(ctx, x.Patience, c.ask)
			if !answered {
				found = []Finding{broken(x.asAccount("bluegreen", "--repo", x.repo.Dir, "doctor"),
					"the %s could not be examined within %s: something hangs", c.name, x.Patience)}
			}
			answers[i] <- found
		}()
	}
	var findings []Finding
	for i, c := range checks {
		for _, f := range <-answers[i] {
			f.Check = c.name
			findings = append(findings, f)
		}
	}
	return findings
}

// within asks for up to limit. Who does not come back by then, from a
// filesystem that hangs for one, is left behind.
func within[T any](ctx context.Context, limit time.Duration, ask func(context.Context) T) (answer T, answered bool) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	done := make(chan T, 1)
	go func() { done <- ask(ctx) }()
	select {
	case answer = <-done:
		return answer, true
	case <-ctx.Done():
	}
	// Those that obey the context say themselves what they were waiting for.
	select {
	case answer = <-done:
		return answer, true
	case <-time.After(grace):
		return answer, false
	}
}

// grace is what a check has to say something once its time is over. A command
// needs 3 s to be killed.
const grace = 4 * time.Second

// A Mended is one fix that was tried.
type Mended struct {
	Fix string
	Err error // why it failed, nil where it did not
}

// Mend tries what is safe of the fixes: settings of git, permissions, a lock
// that nobody holds, and recovery. Whether it has helped, another Examine tells.
func (r *Report) Mend(ctx context.Context) []Mended {
	var all []Mended
	for _, f := range r.Findings {
		if f.mend != nil && !slices.ContainsFunc(all, func(m Mended) bool { return m.Fix == f.Fix }) {
			all = append(all, Mended{f.Fix, f.mend(ctx)})
		}
	}
	return all
}

// held is what the web root holds, nil for nothing.
func (x *exam) held(ctx context.Context) (*journal.Deployed, error) {
	ref, err := x.env.Repo.Ref(ctx, x.env.Rules().BranchRef())
	if err != nil {
		return nil, err
	}
	return x.env.Held(ctx, ref)
}
