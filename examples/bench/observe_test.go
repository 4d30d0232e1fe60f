package main

import (
	"bufio"
	"errors"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

func TestHookTimes(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "trace")
	// A hook of another process has the same number as a command of the first.
	const trace = `{"event":"version","sid":"a","evt":"3"}
{"event":"child_start","sid":"a","child_id":0,"child_class":"?","argv":["git","rev-list"]}
{"event":"child_exit","sid":"a","child_id":0,"pid":9,"code":0,"t_rel":0.5}
{"event":"child_start","sid":"a/b","child_id":0,"child_class":"hook","hook_name":"pre-receive","argv":["hooks/pre-receive"]}
{"event":"child_start","sid":"a","child_id":1,"child_class":"?","argv":["git","gc"]}
{"event":"child_exit","sid":"a/b","child_id":0,"pid":10,"code":0,"t_rel":0.0125}
{"event":"child_exit","sid":"a","child_id":1,"pid":11,"code":0,"t_rel":0.7}
{"event":"child_start","sid":"a/b","child_id":1,"child_class":"hook","hook_name":"post-receive","argv":["hooks/post-receive"]}
`
	const end = `{"event":"child_exit","sid":"a/b","child_id":1,"pid":12,"code":0,"t_rel":0.25}` + "\n"
	write := func(text string) {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(trace + end)
	times, err := hookTimes(path)
	if want := map[string]float64{"pre-receive": 12.5, "post-receive": 250}; err != nil || !maps.Equal(times, want) {
		t.Errorf("%v, %v, and not %v", times, err, want)
	}
	if sum := (sample{Whole: 999, Hooks: times}).hooks(); sum != 262.5 {
		t.Errorf("the hooks took %v ms, and not 262.5", sum)
	}
	for _, text := range []string{trace, trace + end + "{"} {
		write(text)
		if times, err := hookTimes(path); err == nil {
			t.Errorf("a trace without its end tells of %v", times)
		}
	}
}

func TestHighWater(t *testing.T) {
	t.Parallel()
	if got := parseHighWater("Name:\tgit\nVmPeak:\t  999 kB\nVmHWM:\t  1234 kB\nVmRSS:\t 5 kB\n"); got != 1234<<10 {
		t.Errorf("%d", got)
	}
	if got := parseHighWater("Name:\tkthread\n"); got != 0 {
		t.Errorf("%d", got)
	}
}

// TestSampler looks at a script that has started one of our programs and a git
// command, which wait for the end of their input. Git counts in a hook alone.
func TestSampler(t *testing.T) {
	t.Parallel()
	cat, err := exec.LookPath("cat")
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(cat)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Mkdir(dir+"/bin", 0o755), os.WriteFile(dir+"/bin/ours", program, 0o755)); err != nil {
		t.Fatal(err)
	}
	for name, hook := range map[string]bool{"post-receive": true, "another": false} {
		s := sampleScript(t, dir, name)
		if s.own < 100<<10 || s.own > 1<<30 {
			t.Errorf("%s: %d bytes of ours", name, s.own)
		}
		if hook && (s.git < 500<<10 || s.git > 1<<30) || !hook && s.git != 0 {
			t.Errorf("%s: %d bytes of git's", name, s.git)
		}
	}
}

// sampleScript runs a script of that name, and looks once at all that it runs.
func sampleScript(t *testing.T, dir, name string) *sampler {
	t.Helper()
	const script = "exec 3<&0\n\"${0%/*}/bin/ours\" <&3 & ours=$!\ngit hash-object --stdin <&3 & git=$!\n" +
		"until [[ $(cat /proc/$ours/comm) == ours && $(cat /proc/$git/comm) == git ]]; do :; done\necho ready\nwait\n"
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("bash", path)
	in, noIn := cmd.StdinPipe()
	out, noOut := cmd.StdoutPipe()
	if err := errors.Join(noIn, noOut, cmd.Start()); err != nil {
		t.Fatal(err)
	}
	ready := bufio.NewReader(out)
	if line, err := ready.ReadString('\n'); line != "ready\n" {
		t.Fatalf("%q, %v", line, err)
	}
	s := &sampler{bin: filepath.Join(dir, "bin")}
	s.start(cmd.Process.Pid)
	s.stop()
	in.Close()
	io.Copy(io.Discard, ready)
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	return s
}

func TestParseCalls(t *testing.T) {
	t.Parallel()
	const table = `% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 55.10    0.001200           2       600           newfstatat
 30.00    0.000700          11        60         3 openat
  0.00    0.000000           0      1500           write
------ ----------- ----------- --------- --------- ----------------
100.00    0.001900           0      2160         3 total
`
	c, err := parseCalls(table)
	if want := "2,160 system calls: write 1,500, newfstatat 600, openat 60"; err != nil || c.text() != want {
		t.Errorf("%q, %v, and not %q", c.text(), err, want)
	}
	if _, err := parseCalls("strace: exec: Exec format error, not a table\n"); err == nil {
		t.Error("what is no table was read as one")
	}
}
