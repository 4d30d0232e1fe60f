// Command proc-receive deploys before the ref moves, so that git push fails when
// the deployment fails.
package main

import (
	"os"

	"bluegreen/internal/receive"
)

func main() { os.Exit(receive.Main("proc-receive", receive.ProcReceive, os.Args[1:])) }
