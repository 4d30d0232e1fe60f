package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// hookTimes reads how long each hook ran, in milliseconds, from what git
// receive-pack has noted of its children: from before the start to after the
// end of the process. The hooks themselves are as they always are.
func hookTimes(path string) (map[string]float64, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	times, names := map[string]float64{}, map[string]string{}
	lines := bufio.NewScanner(bytes.NewReader(data))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var event struct {
			Event    string  `json:"event"`
			Process  string  `json:"sid"`
			Child    int     `json:"child_id"`
			Class    string  `json:"child_class"`
			Hook     string  `json:"hook_name"`
			Relative float64 `json:"t_rel"`
		}
		if err := json.Unmarshal(lines.Bytes(), &event); err != nil {
			return nil, fmt.Errorf("reading git's trace: %w", err)
		}
		child := fmt.Sprint(event.Process, " ", event.Child)
		switch {
		case event.Event == "child_start" && event.Class == "hook":
			names[child] = event.Hook
		case event.Event == "child_exit" && names[child] != "":
			times[names[child]] += 1000 * event.Relative
		}
	}
	for _, name := range names {
		if _, ended := times[name]; !ended {
			return nil, fmt.Errorf("git's trace does not tell of the end of %s", name)
		}
	}
	return times, lines.Err()
}

// A sampler looks at the memory of what a push has started. The kernel keeps
// each process' highest value, so only what a process takes in the last moment
// of its life can be missed.
type sampler struct {
	bin      string // our programs
	own, git int64
	quit     chan struct{}
	done     chan struct{}
}

// every is the time between two looks.
const every = 2 * time.Millisecond

// start begins to look at what pid starts.
func (s *sampler) start(pid int) {
	s.quit, s.done = make(chan struct{}), make(chan struct{})
	go func() {
		defer close(s.done)
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			s.look(pid, false)
			select {
			case <-s.quit:
				return
			case <-tick.C:
			}
		}
	}()
}

// stop returns the highest values, in bytes: of one of our programs, and of
// one of the git commands below a hook.
func (s *sampler) stop() (own, git int64) {
	if s.quit != nil {
		close(s.quit)
		<-s.done
	}
	return s.own, s.git
}

// look looks at pid and all below it. There is no adding up: between fork and
// exec two processes share their memory.
func (s *sampler) look(pid int, inHook bool) {
	program, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	name := filepath.Base(program)
	switch {
	case filepath.Dir(program) == s.bin:
		inHook = true
		s.own = max(s.own, highWater(pid))
	case inHook && (name == "git" || strings.HasPrefix(name, "git-")):
		s.git = max(s.git, highWater(pid))
	case !inHook:
		inHook = isHook(pid)
	}
	for _, child := range children(pid) {
		s.look(child, inHook)
	}
}

// isHook tells whether a process is the interpreter of a hook.
func isHook(pid int) bool {
	line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return slices.ContainsFunc(strings.Split(string(line), "\x00"), func(argument string) bool {
		return slices.Contains(hookNames(), filepath.Base(argument))
	})
}

// children lists what a process, with all its threads, has started.
func children(pid int) []int {
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	var pids []int
	for _, list := range lists {
		data, _ := os.ReadFile(list) // gone in the meantime: no children
		for _, field := range strings.Fields(string(data)) {
			if child, err := strconv.Atoi(field); err == nil && !slices.Contains(pids, child) {
				pids = append(pids, child)
			}
		}
	}
	return pids
}

// highWater is the most memory that a process has had resident.
func highWater(pid int) int64 {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	return parseHighWater(string(data))
}

func parseHighWater(status string) int64 {
	for line := range strings.Lines(status) {
		if value, found := strings.CutPrefix(line, "VmHWM:"); found {
			kilobytes, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(value), "kB")), 10, 64)
			if err != nil {
				return 0
			}
			return kilobytes << 10
		}
	}
	return 0
}
