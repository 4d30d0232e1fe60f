// Command demo tells the story of blue-green deployment on one machine: two
// environments with their own repositories, web roots and web servers, and a
// developer who pushes to them. What it shows is what git and the programs
// print, and all of it is checked: the exit status is 0 only if everything was
// as told. It stays on the loopback interface and in a directory of its own,
// which it removes.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"
)

func main() { os.Exit(run()) }

func run() int {
	bin := flag.String("bin", "bin", "the `directory` with the built programs")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	// A reader that is gone is an error of the write, and not the end of us.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	st, err := os.Stdout.Stat()
	colour := err == nil && st.Mode()&os.ModeCharDevice != 0 && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
	if err := tell(ctx, *bin, os.Stdout, colour); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		return 1
	}
	return 0
}

// tell plays the scenes, up to the first one that is not as told.
func tell(ctx context.Context, bin string, out io.Writer, colour bool) (err error) {
	started := time.Now()
	ctx, cancel := context.WithTimeoutCause(ctx, 30*time.Second, errors.New("it took longer than 30 seconds"))
	defer cancel()
	d := &demo{out: out, colour: colour}
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

// A demo is the stage: the machines of the story, which are directories here.
// Once something has gone wrong, its methods do nothing more.
type demo struct {
	out         io.Writer
	colour      bool
	dir         string // has a home for each machine
	blue, green *site
	err         error // the first one
}

const laptop = "laptop"

// gitConfig is all of git's configuration above the repositories. Nothing may
// go on in the background when a command has ended.
const gitConfig = "[init]\n\tdefaultBranch = master\n[user]\n\tname = Ann\n\temail = ann@example.com\n" +
	"[gc]\n\tauto = 0\n[maintenance]\n\tauto = false\n"

// open makes the homes and starts the web servers.
func (d *demo) open(bin string) error {
	bin, err := filepath.Abs(bin)
	if err != nil {
		return err
	}
	if _, err := os.Stat(bin + "/bluegreen"); err != nil {
		return fmt.Errorf("%w: \"make demo\" builds the programs first", err)
	}
	if d.dir, err = os.MkdirTemp("", "bluegreen-"); err != nil {
		return err
	}
	for _, machine := range []string{laptop, "blue", "green"} {
		home := filepath.Join(d.dir, machine)
		err = errors.Join(err, os.MkdirAll(home+"/html", 0o755), os.Mkdir(home+"/sample_app", 0o755), os.Symlink(bin, home+"/bin"),
			os.WriteFile(home+"/.gitconfig", []byte(gitConfig), 0o644))
	}
	var noBlue, noGreen error
	d.blue, noBlue = newSite("blue", d.dir+"/blue/html")
	d.green, noGreen = newSite("green", d.dir+"/green/html")
	return errors.Join(err, noBlue, noGreen)
}

func (d *demo) sites() []*site { return []*site{d.blue, d.green} }

// close stops the servers and removes the directory.
func (d *demo) close() error {
	for _, s := range d.sites() {
		s.close()
	}
	return os.RemoveAll(d.dir)
}

// check fails the demo unless ok. The first failure is the one that counts.
func (d *demo) check(ok bool, format string, args ...any) {
	if !ok && d.err == nil {
		d.err = fmt.Errorf(format, args...)
	}
}

func (d *demo) say(format string, args ...any) {
	if d.err == nil {
		_, d.err = fmt.Fprintf(d.out, format+"\n", args...)
	}
}

func (d *demo) paint(colour, text string) string {
	if !d.colour {
		return text
	}
	return "\x1b[" + colour + "m" + text + "\x1b[m"
}

// show prints what a command has printed, in lines that fit into 80 columns.
func (d *demo) show(text string) {
	words := strings.NewReplacer("success:", d.paint("1;32", "success:"), "warning:", d.paint("1;33", "warning:"),
		"error:", d.paint("1;31", "error:"), "! [remote rejected]", d.paint("1;31", "! [remote rejected]"))
	for line := range strings.Lines(text) {
		shown, column, indent := "", 0, "    "
		if strings.HasPrefix(line, "remote: ") {
			indent = "remote:     "
		}
		for word := range strings.SplitAfterSeq(strings.TrimRight(line, " \n"), " ") {
			if column > 0 && column+len(strings.TrimSpace(word)) > 80 {
				shown, column = strings.TrimRight(shown, " ")+"\n"+indent, len(indent)
			}
			shown, column = shown+word, column+len(word)
		}
		d.say("%s", words.Replace(shown))
	}
}

// run shows a command, runs it in the machine's ~/sample_app and shows what it
// prints, which it returns.
func (d *demo) run(ctx context.Context, machine, command string, want int) string {
	d.say("%s %s", d.paint("34", machine+":~/sample_app$"), d.paint("1", command))
	out, status := d.shell(ctx, machine, command)
	d.show(out)
	if status != 0 {
		d.say("[exit status %d]", status)
	}
	d.check(status == want, "%s: exit status %d, and not %d", command, status, want)
	return out
}

// ask is run for what need not be shown. It leaves out the last newline.
func (d *demo) ask(ctx context.Context, machine, command string) string {
	out, status := d.shell(ctx, machine, command)
	d.check(status == 0, "%s on %s: exit status %d: %s", command, machine, status, out)
	return strings.TrimSpace(out)
}

// overwritten is what a carriage return hides on a terminal.
var overwritten = regexp.MustCompile(`[^\n]*\r`)

// shell returns what a command prints and its exit status. Of the user's
// environment the command gets PATH only. It does not outlive ctx.
func (d *demo) shell(ctx context.Context, machine, command string) (string, int) {
	if d.err != nil {
		return "", 0
	}
	var out bytes.Buffer
	home := filepath.Join(d.dir, machine)
	cmd := exec.CommandContext(ctx, "sh", "-c", command)
	cmd.Dir = home + "/sample_app"
	cmd.Env = []string{"HOME=" + home, "PATH=" + home + "/bin:" + os.Getenv("PATH"), "LC_ALL=C",
		"GIT_CONFIG_GLOBAL=" + home + "/.gitconfig", "GIT_CONFIG_NOSYSTEM=1"}
	cmd.Stdout, cmd.Stderr = &out, &out
	// Hooks outlive git, as they should: the whole group has to go.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	if ctx.Err() != nil {
		err = context.Cause(ctx)
		for i := 0; cmd.Process != nil && syscall.Kill(-cmd.Process.Pid, 0) == nil && i < 100; i++ {
			time.Sleep(10 * time.Millisecond) // until all have ended
		}
	}
	exit := (*exec.ExitError)(nil)
	d.check(err == nil || errors.As(err, &exit), "%s: %w", command, err)
	return overwritten.ReplaceAllString(out.String(), ""), cmd.ProcessState.ExitCode()
}
