// Command post-receive deploys after the ref has moved, for repositories without
// proc-receive, and leaves alone what proc-receive has done.
package main

import (
	"os"

	"bluegreen/internal/receive"
)

func main() { os.Exit(receive.Main("post-receive", receive.PostReceive, os.Args[1:])) }
