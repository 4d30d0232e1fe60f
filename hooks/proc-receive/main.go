// A hook lives for milliseconds, too short to ask, and ask again, what share of
// the processors its container has.
//
//go:debug containermaxprocs=0
//go:debug updatemaxprocs=0

// Command proc-receive deploys before the ref moves, so that git push fails when
// the deployment fails.
package main

import (
	"os"

	"bluegreen/internal/receive"
)

func main() { os.Exit(receive.Main("proc-receive", receive.ProcReceive, os.Args[1:])) }
