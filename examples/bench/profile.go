package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// profiled are the programs that can write profiles.
func profiled() []string { return append(hookNames(), "bluegreen") }

// profileDir is where the profiles of a track go.
func (b *bench) profileDir(p *place, s scenario, t *track) string {
	return filepath.Join(b.profile, strings.Join([]string{s.name, p.name, t.Site, t.Contestant}, "-"))
}

// examine makes the profiles of a scenario readable, and counts system calls
// in one move more.
func (b *bench) examine(ctx context.Context, p *place, s scenario, tracks []track, round int) error {
	_, noStrace := exec.LookPath("strace")
	for i := range tracks {
		t := &tracks[i]
		dir := b.profileDir(p, s, t)
		fmt.Fprintf(b.out, "  %s\n", dir)
		for _, program := range profiled() {
			for _, kind := range []string{"cpu", "heap"} {
				if err := b.merge(ctx, dir, program, kind); err != nil {
					return err
				}
			}
		}
		if noStrace != nil {
			err := error(leftOut(noStrace.Error()))
			b.skipped("system calls", &err)
			continue
		}
		if _, err := b.measureOne(ctx, p, s, t, t.moves[round%len(t.moves)], watch{strace: dir}); err != nil {
			return err
		}
		if err := b.tellCalls(dir); err != nil {
			return err
		}
	}
	return nil
}

// merge makes one profile, and a text of its largest numbers, of those of many
// processes.
func (b *bench) merge(ctx context.Context, dir, program, kind string) error {
	parts, err := filepath.Glob(filepath.Join(dir, program+"-*."+kind+".prof"))
	if err != nil || len(parts) == 0 {
		return err
	}
	whole := filepath.Join(dir, program+"."+kind)
	for _, form := range [][]string{{"-proto", "-output=" + whole + ".pb.gz"}, {"-top", "-nodecount=60", "-output=" + whole + ".txt"}} {
		argv := append([]string{"go", "tool", "pprof", "-symbolize=none"}, form...)
		if kind == "heap" {
			argv = append(argv, "-sample_index=alloc_space")
		}
		// Its own home: Go builds the tool when it is needed first.
		env := []string{"HOME=" + os.Getenv("HOME"), "PPROF_TMPDIR=" + b.dir}
		if _, err := b.shell.run(ctx, job{dir: b.dir, env: env, argv: append(argv, parts...)}); err != nil {
			return err
		}
	}
	for _, part := range parts {
		err = errors.Join(err, os.Remove(part))
	}
	return err
}

// straced runs a program under strace, which counts its system calls and those
// of all that it starts.
func straced(dir, program string) []string {
	return []string{"strace", "-f", "-c", "-o", filepath.Join(dir, filepath.Base(program)+".strace"), program}
}

// traceHooks puts scripts in the place of the hooks. linkHooks undoes it.
func (v *server) traceHooks(sh *shell, dir string) error {
	for _, name := range hookNames() {
		hook := filepath.Join(v.repo, "hooks", name)
		text := "#!/bin/sh\nexec '" + strings.Join(straced(dir, filepath.Join(sh.bin, name)), "' '") + "' \"$@\"\n"
		if err := errors.Join(remove(hook), os.WriteFile(hook, []byte(text), 0o755)); err != nil {
			return err
		}
	}
	return nil
}

// calls counts system calls.
type calls struct {
	total  int
	byName map[string]int
}

// parseCalls reads the table of strace -c.
func parseCalls(table string) (calls, error) {
	c := calls{byName: map[string]int{}}
	for line := range strings.Lines(table) {
		// "% time  seconds  usecs/call  calls  [errors]  syscall"
		fields := strings.Fields(line)
		if len(fields) < 5 || strings.HasPrefix(fields[0], "%") || strings.HasPrefix(fields[0], "-") {
			continue
		}
		n, err := strconv.Atoi(fields[3])
		if err != nil {
			return c, fmt.Errorf("strace printed %q", line)
		}
		if name := fields[len(fields)-1]; name != "total" {
			c.byName[name] = n
			c.total += n
		}
	}
	return c, nil
}

// text is the count with its largest parts.
func (c calls) text() string {
	names := slices.SortedFunc(maps.Keys(c.byName), func(a, b string) int {
		return cmp.Or(c.byName[b]-c.byName[a], strings.Compare(a, b))
	})
	var parts []string
	for _, name := range names[:min(8, len(names))] {
		parts = append(parts, fmt.Sprintf("%s %s", name, thousands(c.byName[name])))
	}
	return fmt.Sprintf("%s system calls: %s", thousands(c.total), strings.Join(parts, ", "))
}

// tellCalls prints what strace has counted.
func (b *bench) tellCalls(dir string) error {
	for _, program := range profiled() {
		table, err := os.ReadFile(filepath.Join(dir, program+".strace"))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		counted, err := parseCalls(string(table))
		if err != nil {
			return err
		}
		fmt.Fprintf(b.out, "    %-13s %s\n", program, counted.text())
	}
	return nil
}
