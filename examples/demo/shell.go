package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"
)

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

// overwritten is what a carriage return hides on a terminal: progress, here with the
// end of its line.
var overwritten = regexp.MustCompile(`[^\n]*\r(remote: *\n)?`)

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
