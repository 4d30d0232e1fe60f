// Package schema knows the versions of the database that the environments share:
// which ones a release works with, which one the database is at, and how it is
// moved to another one.
package schema

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"bluegreen/internal/command"
)

// largest bounds a version: the date and time that some migrations are numbered by
// have 14 digits.
const largest = 999_999_999_999_999

// A Range is the versions that a release works with, both ends included.
type Range struct {
	From, To int
}

// ParseRange reads "3..4", or "4" for that one alone.
func ParseRange(s string) (Range, error) {
	from, to, ranged := strings.Cut(s, "..")
	if !ranged {
		to = from
	}
	r := Range{}
	var wrong [2]error
	r.From, wrong[0] = ParseVersion(from)
	r.To, wrong[1] = ParseVersion(to)
	if errors.Join(wrong[:]...) != nil {
		return Range{}, fmt.Errorf("%q is not a range of versions such as \"3..4\", nor one such as \"4\"", shorten(s))
	}
	if r.From > r.To {
		return Range{}, fmt.Errorf("%q ends before it begins", s)
	}
	return r, nil
}

// ParseVersion reads a version: digits alone.
func ParseVersion(s string) (int, error) {
	if s == "" || strings.Trim(s, "0123456789") != "" {
		return 0, fmt.Errorf("%q is not a version, which is a number", shorten(s))
	}
	n, err := strconv.Atoi(s)
	if err != nil || n > largest {
		return 0, fmt.Errorf("%q is too large for a version", shorten(s))
	}
	return n, nil
}

// TagVersion returns the version that the name of a tag ends with.
func TagVersion(tag string) (int, error) {
	digits := tag[len(strings.TrimRight(tag, "0123456789")):]
	if digits == "" {
		return 0, fmt.Errorf("%q does not end with a version", tag)
	}
	return ParseVersion(digits)
}

func shorten(s string) string { return s[:min(len(s), 100)] }

// Has tells whether a version is one of them.
func (r Range) Has(version int) bool { return r.From <= version && version <= r.To }

func (r Range) String() string {
	if r.From == r.To {
		return strconv.Itoa(r.From)
	}
	return fmt.Sprintf("%d..%d", r.From, r.To)
}

// A Database is asked, and moved, by programs of the operator's.
type Database struct {
	VersionArgv []string // prints the version that it is at
	MigrateArgv []string // moves it to the version in the place of "{version}"
	Dir         string   // their working directory
	Timeout     time.Duration
}

// asking is the longest that the program may take which prints the version: others
// wait for the answer, and it is one query.
const asking = 30 * time.Second

// Version asks which version the database is at. env is the program's complete
// environment.
func (d *Database) Version(ctx context.Context, env []string) (int, error) {
	text, err := command.Read(ctx, command.Command{Argv: d.VersionArgv, Env: env, Dir: d.Dir, Timeout: min(d.Timeout, asking)})
	if err != nil {
		return 0, fmt.Errorf("asking for the database's version: %w", err)
	}
	version, err := ParseVersion(strings.TrimSpace(text))
	if err != nil {
		return 0, fmt.Errorf("asking for the database's version: %q printed something else: %w", d.VersionArgv[0], err)
	}
	return version, nil
}

// Migrate moves the database to a version. Its error does not tell where the
// database is: Version does. started is told of the process, which may outlive
// this one; line of each line that it prints.
func (d *Database) Migrate(ctx context.Context, version int, env []string, started func(pid int) error, line func(string)) error {
	argv := make([]string, len(d.MigrateArgv))
	for i, arg := range d.MigrateArgv {
		argv[i] = strings.ReplaceAll(arg, "{version}", strconv.Itoa(version))
	}
	out, err := command.Run(ctx, command.Command{Argv: argv, Env: env, Dir: d.Dir, Timeout: d.Timeout, Started: started}, line)
	if err == nil {
		return nil
	}
	if last := out.Last(); last != "" {
		return fmt.Errorf("%w, saying %q", err, last)
	}
	return err
}
