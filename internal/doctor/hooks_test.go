package doctor

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestMakeExecutable opens nothing but files: what a hook leads to may be the
// account's choice, and root asks.
func TestMakeExecutable(t *testing.T) {
	t.Parallel()
	p := newPatient(t)
	fifo := filepath.Join(p.dir, "fifo")
	p.must(syscall.Mkfifo(fifo, 0o600))
	script := filepath.Join(p.dir, "script")
	p.write(script, "#!/bin/sh\n", 0o644)
	watch, err := syscall.InotifyInit1(syscall.IN_CLOEXEC | syscall.IN_NONBLOCK)
	p.must(err)
	defer syscall.Close(watch)
	_, err = syscall.InotifyAddWatch(watch, fifo, syscall.IN_OPEN)
	p.must(err)
	p.remove("hooks/pre-receive")
	hook := filepath.Join(p.repo, "hooks/pre-receive")
	for target, want := range map[string]string{fifo: "is not a file", p.dir: "is not a file", script: "is no program of bluegreen's", "/nonexistent": "no such file"} {
		p.link("hooks/pre-receive", target)
		if err := makeExecutable(hook); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", target, err)
		}
		p.remove("hooks/pre-receive")
	}
	if n, err := syscall.Read(watch, make([]byte, 4096)); err != syscall.EAGAIN {
		t.Errorf("the FIFO was opened: %d bytes of events, %v", n, err)
	}
	if st, err := os.Stat(script); err != nil || st.Mode() != 0o644 {
		t.Errorf("the script is %v, %v", st.Mode(), err)
	}
	program := p.ownHook("proc-receive", 0o600)
	p.link("hooks/pre-receive", program)
	if err := makeExecutable(hook); err != nil {
		t.Error(err)
	}
	if st, err := os.Stat(program); err != nil || st.Mode() != 0o755 {
		t.Errorf("the program is %v, %v", st.Mode(), err)
	}
}
