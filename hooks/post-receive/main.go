// A hook lives for milliseconds, too short to ask, and ask again, what share of
// the processors its container has.
//
//go:debug containermaxprocs=0
//go:debug updatemaxprocs=0

// Command post-receive deploys after the ref has moved, for repositories without
// proc-receive, and leaves alone what proc-receive has done.
package main

import (
	"os"

	"bluegreen/internal/receive"
)

func main() { os.Exit(receive.Main("post-receive", receive.PostReceive, os.Args[1:])) }
