//go:build profile

// Package profile lets a benchmark see what a program spends its time and
// memory on.
package profile

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
)

// sampled is how many allocated bytes one sample of the heap profile stands
// for. A hook lives for a moment: Go's own half megabyte would see little.
const sampled = 16 << 10

// Start begins to profile a program. The function that it returns writes what
// was seen into the directory that BLUEGREEN_PROFILE names, into files of this
// process. Without that variable it does nothing.
func Start(program string) (stop func()) {
	dir := os.Getenv("BLUEGREEN_PROFILE")
	if dir == "" {
		return func() {}
	}
	runtime.MemProfileRate = sampled
	file := func(kind string) *os.File {
		f, err := os.Create(filepath.Join(dir, fmt.Sprintf("%s-%d.%s.prof", program, os.Getpid(), kind)))
		if err != nil {
			fmt.Fprintln(os.Stderr, "profile:", err)
		}
		return f
	}
	cpu, heap := file("cpu"), file("heap") // before the process is confined
	if err := pprof.StartCPUProfile(cpu); err != nil {
		fmt.Fprintln(os.Stderr, "profile:", err)
	}
	return func() {
		pprof.StopCPUProfile()
		cpu.Close()
		if err := pprof.Lookup("allocs").WriteTo(heap, 0); err != nil {
			fmt.Fprintln(os.Stderr, "profile:", err)
		}
		heap.Close()
	}
}
