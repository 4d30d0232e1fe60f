// Command bench measures deployments: those of this repository's hooks beside
// what people use instead – the tutorial's bash hook, git checkout with several
// workers, and the releases of Capistrano and Deployer. All contestants deploy
// the same commits, in turn, round by round, and what counts is the ratio
// within a round. It writes tables in Markdown, a chart and the raw numbers, of
// which "-from" makes tables and chart again; "-out" says where they go. With
// "-profile" it looks at what the time is spent on, and not at the time.
//
// It works in new directories of /dev/shm, and of an ext4 image that it mounts
// where it is root, and removes them at its end.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

func main() { os.Exit(execute()) }

// options are what the command line says.
type options struct {
	bin, to, from, image, repository, profile string
	scenarios, places, contestants            []string
	rounds                                    int
	scale                                     float64
}

func parseOptions(args []string) (options, error) {
	var o options
	var chosen [3]string
	var names, keys []string
	for _, s := range scenarios() {
		names = append(names, s.name)
	}
	for _, c := range contestants() {
		keys = append(keys, c.key)
	}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.StringVar(&o.bin, "bin", "bin", "the `directory` with the built programs")
	flags.StringVar(&o.to, "out", "dist/bench", "the `directory` that tables, chart and numbers go to")
	flags.StringVar(&o.from, "from", "", "measure nothing: draw what is in this results.json `file`")
	flags.StringVar(&o.image, "image", os.TempDir(), "the `directory` that the ext4 image lies in while it is needed")
	flags.StringVar(&o.repository, "history", ".", "the `repository` whose last commits are the real history")
	flags.StringVar(&o.profile, "profile", "", "write profiles of the hooks to this `directory`; -bin needs programs with the build tag profile")
	flags.StringVar(&chosen[0], "scenario", "", "only these `scenarios`, separated by commas: "+strings.Join(names, ", "))
	flags.StringVar(&chosen[1], "place", "", "only these `places`: tmpfs, ext4")
	flags.StringVar(&chosen[2], "contestant", "", "only these `contestants`: "+strings.Join(keys, ", "))
	flags.IntVar(&o.rounds, "rounds", 0, "so many rounds of each scenario")
	flags.Float64Var(&o.scale, "scale", 1, "make all sites this much smaller, to try things out")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if flags.NArg() > 0 {
		return o, fmt.Errorf("%q is no option", flags.Arg(0))
	}
	if o.scale <= 0 || o.scale > 1 {
		return o, fmt.Errorf("-scale is %v, and not between 0 and 1", o.scale)
	}
	var wrong [3]error
	o.scenarios, wrong[0] = choose("scenario", chosen[0], names)
	o.places, wrong[1] = choose("place", chosen[1], []string{tmpfs, ext4})
	o.contestants, wrong[2] = choose("contestant", chosen[2], keys)
	return o, errors.Join(wrong[:]...)
}

func execute() int {
	o, err := parseOptions(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	// A reader that is gone is an error of the write, and not the end of us.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	if err == nil {
		err = act(ctx, o)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		return 1
	}
	return 0
}

// deadline ends a measurement that hangs.
const deadline = 2 * time.Hour

// act measures and writes, or only writes.
func act(ctx context.Context, o options) (err error) {
	if o.from != "" {
		r, err := load(o.from)
		if err != nil {
			return err
		}
		return r.save(o.to)
	}
	if o.bin, err = filepath.EvalSymlinks(o.bin); err == nil {
		o.bin, err = filepath.Abs(o.bin)
	}
	if err == nil {
		_, err = os.Stat(filepath.Join(o.bin, "bluegreen"))
	}
	if err != nil {
		return fmt.Errorf("%w: \"make bench\" builds the programs first", err)
	}
	var noDir error
	o.repository, err = filepath.Abs(o.repository)
	if o.profile != "" {
		o.profile, noDir = filepath.Abs(o.profile)
	}
	if err = errors.Join(err, noDir); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, deadline, fmt.Errorf("it took longer than %v", deadline))
	defer cancel()
	b := &bench{options: o, out: os.Stdout}
	if b.dir, err = os.MkdirTemp("", "bluegreen-bench-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.dir)) }()
	if b.shell, err = newShell(b.dir, o.bin); err != nil {
		return err
	}
	return b.report(b.measure(ctx))
}

// report writes what was measured, even if something went wrong then.
func (b *bench) report(err error) error {
	if len(b.results.Runs) == 0 || b.profile != "" {
		return err
	}
	err = errors.Join(err, b.results.save(b.to))
	for _, o := range b.results.outcomes() {
		verdict := "NOT REACHED"
		switch {
		case b.scale != 1:
			verdict = "not judged at this scale"
		case o.met():
			verdict = "reached"
		}
		fmt.Fprintf(b.out, "%s, %s, %s: %s; %s: %s\n", o.work, o.place, nameOf(o.subject), o.measured(), o.target(), verdict)
	}
	fmt.Fprintf(b.out, "Tables, chart and numbers are in %s.\n", b.to)
	return err
}
