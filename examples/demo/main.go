// Command demo tells the story of blue-green deployment on one machine: two
// environments with their own repositories, web roots and web servers, a
// floating IP in a simulated cloud that leads to one of them, a developer who
// pushes, and visitors who ask all the time. What it shows is what git and the
// programs print, and all of it is checked: the exit status is 0 only if
// everything was as told and no visitor went without an answer. It stays on the
// loopback interface and in a directory of its own, which it removes.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() { os.Exit(run()) }

func run() int {
	bin := flag.String("bin", "bin", "the `directory` with the built programs")
	svg := flag.String("svg", "", "also draw what the visitors saw into this `file`, as an SVG picture")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	// A reader that is gone is an error of the write, and not the end of us.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	st, err := os.Stdout.Stat()
	colour := err == nil && st.Mode()&os.ModeCharDevice != 0 && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
	if err := tell(ctx, &demo{out: os.Stdout, colour: colour, svg: *svg}, *bin); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		return 1
	}
	return 0
}

// deadline ends a demo that hangs. Usually it takes less than half of it.
const deadline = time.Minute

// tell plays the scenes, up to the first one that is not as told.
func tell(ctx context.Context, d *demo, bin string) (err error) {
	started := time.Now()
	ctx, cancel := context.WithTimeoutCause(ctx, deadline, fmt.Errorf("it took longer than %.0f seconds", deadline.Seconds()))
	defer cancel()
	defer func() { err = errors.Join(err, d.close()) }()
	if d.err = d.open(bin); d.err != nil {
		return d.err
	}
	for i, s := range scenes() {
		d.say("%s\n", d.paint("1", fmt.Sprintf("%d. %s", i+1, s.title)))
		s.play(ctx, d)
		d.say("")
		if d.err != nil {
			return fmt.Errorf("scene %d, %q: %w", i+1, s.title, d.err)
		}
	}
	d.show(fmt.Sprintf("All was as told, in %.1f seconds. %s goes away now.\n", time.Since(started).Seconds(), d.dir))
	return d.err
}
