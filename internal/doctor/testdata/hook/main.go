// Command hook says who it is, as the hooks do when they are asked for their
// version.
package main

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"

	"bluegreen/internal/version"
)

func main() {
	fmt.Println(filepath.Base(os.Args[0]), cmp.Or(os.Getenv("DOCTOR_TEST_SAYS"), version.Number))
}
