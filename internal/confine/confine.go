// Package confine keeps this process, and what it starts, from writing anywhere
// but in a few directories, by Landlock.
package confine

import (
	"fmt"
	"os"

	"github.com/landlock-lsm/go-landlock/landlock"
	kernel "github.com/landlock-lsm/go-landlock/landlock/syscall"
)

// oldest is the Landlock that can allow renames from one directory to another,
// which deployments are made of: Linux 5.19.
const oldest = 2

// Available tells whether this kernel has what Writes needs.
func Available() bool {
	version, err := kernel.LandlockGetABIVersion()
	return err == nil && version >= oldest
}

// Writes takes from this process and all that it starts, for good, the right to
// write outside of dirs, with what is below them, and to become another account.
// In the directories of links it may also make, move and remove symlinks. All of
// them must be there. Reading, running programs and the network stay as they
// were, as do descriptors that are open. Where Landlock is not Available it does
// nothing.
func Writes(dirs, links []string) error {
	if !Available() {
		return nil
	}
	err := landlock.V5.BestEffort().RestrictPaths(
		landlock.RODirs("/"),
		landlock.RWFiles(os.DevNull),
		landlock.RWDirs(dirs...).WithRefer(),
		landlock.PathAccess(linking, links...),
	)
	if err != nil {
		return fmt.Errorf("confining to %q: %w", append(dirs[:len(dirs):len(dirs)], links...), err)
	}
	return nil
}

// linking are the rights that switching a symlink takes.
const linking = landlock.AccessFSSet(kernel.AccessFSMakeSym | kernel.AccessFSRemoveFile | kernel.AccessFSRefer)
