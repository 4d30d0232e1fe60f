package command

import (
	"fmt"
	"os"
	"strings"
)

// Stat returns a field of a process's status, as proc(5) numbers the fields of
// /proc/PID/stat; "" when there is no such process. Field 22, the time of its
// start, identifies a process beyond its id, which is used again.
func Stat(pid, field int) string {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	// The second field, the name in parentheses, may hold anything.
	_, rest, _ := strings.Cut(string(data[max(0, strings.LastIndexByte(string(data), ')')):]), " ")
	if fields := strings.Fields(rest); field >= 3 && len(fields) > field-3 {
		return fields[field-3]
	}
	return ""
}

// Runs tells whether the process with this id that was started at start is
// still there, and not only waits for its parent to look.
func Runs(pid int, start string) bool {
	return start != "" && Stat(pid, 22) == start && Stat(pid, 3) != "Z"
}
