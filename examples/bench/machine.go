package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A machine says on what was measured.
type machine struct {
	CPU     string   `json:"cpu"`
	Cores   int      `json:"cores"`
	Memory  int64    `json:"memory_bytes"`
	Kernel  string   `json:"kernel"`
	Git     string   `json:"git"`
	Go      string   `json:"go"`
	Program string   `json:"program"`
	Load    string   `json:"load"` // before it began: of the last 1, 5 and 15 minutes
	Places  []string `json:"places"`
}

// describeMachine leaves out what cannot be found.
func describeMachine(ctx context.Context, sh *shell) machine {
	m := machine{Cores: runtime.NumCPU(), Go: runtime.Version()}
	cpu, _ := os.ReadFile("/proc/cpuinfo")
	m.CPU = field(string(cpu), "model name")
	m.Memory, _ = memoryOf("MemTotal")
	var name unix.Utsname
	if unix.Uname(&name) == nil {
		release, _, _ := strings.Cut(unix.ByteSliceToString(name.Release[:]), "-") // what follows names who has built it
		m.Kernel = unix.ByteSliceToString(name.Sysname[:]) + " " + release
	}
	m.Git, _ = sh.git(ctx, "", "--version")
	m.Program, _ = sh.run(ctx, job{argv: []string{filepath.Join(sh.bin, "bluegreen"), "version"}})
	load, _ := os.ReadFile("/proc/loadavg")
	m.Load = strings.Join(strings.Fields(string(load))[:min(3, len(strings.Fields(string(load))))], " ")
	return m
}

// memoryOf is a number of /proc/meminfo, in bytes.
func memoryOf(name string) (int64, error) {
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, err
	}
	kilobytes, err := strconv.ParseInt(strings.TrimSuffix(field(string(text), name), " kB"), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("/proc/meminfo: %s: %w", name, err)
	}
	return kilobytes << 10, nil
}

// availableMemory is what can be taken without making others smaller.
func availableMemory() (int64, error) { return memoryOf("MemAvailable") }

// field is the first value of a name in a file of /proc.
func field(text, name string) string {
	for line := range strings.Lines(text) {
		if key, value, found := strings.Cut(line, ":"); found && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// text is the machine in lines for a list.
func (m machine) text() []string {
	lines := []string{
		fmt.Sprintf("%d × %s, %s GB of memory, %s", m.Cores, m.CPU, significant(float64(m.Memory)/1e9), m.Kernel),
		fmt.Sprintf("%s, %s, %s", m.Git, m.Go, m.Program),
	}
	lines = append(lines, m.Places...)
	return append(lines, "load before it began: "+m.Load)
}
