// A hook lives for milliseconds, too short to ask, and ask again, what share of
// the processors its container has.
//
//go:debug containermaxprocs=0
//go:debug updatemaxprocs=0

// Command pre-receive is the gate: it refuses what must not be pushed, before
// anything moves.
package main

import (
	"os"

	"bluegreen/internal/receive"
)

func main() { os.Exit(receive.Main("pre-receive", receive.PreReceive, os.Args[1:])) }
