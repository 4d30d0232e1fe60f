// Command bluegreen is the operator's command.
package main

import (
	"os"

	"bluegreen/internal/operator"
)

func main() {
	os.Exit(operator.Main(operator.Program{Args: os.Args[1:], Stdout: os.Stdout, Stderr: os.Stderr, Environ: os.Environ()}))
}
