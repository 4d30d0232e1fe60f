//go:build e2e

package e2e_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"
)

// figures are what was measured, for one table at the end.
type figures struct {
	mu   sync.Mutex
	rows []figure
}

// A figure is one line of the table.
type figure struct {
	what string
	took time.Duration // 0 for none
	seen *count        // nil where nobody looked
}

func (f *figures) add(what string, took time.Duration, seen *count) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rows = append(f.rows, figure{what, took, seen})
}

// print writes the table to the log.
func (f *figures) print(t testing.TB) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var table strings.Builder
	w := tabwriter.NewWriter(&table, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "seconds\trequests\tlost\tmixed pages\t")
	for _, row := range f.rows {
		took, seen := "", "\t\t"
		if row.took > 0 {
			took = fmt.Sprintf("%.2f", row.took.Seconds())
		}
		if row.seen != nil {
			seen = fmt.Sprintf("%d\t%d\t%d", row.seen.requests, row.seen.lost, row.seen.mixed)
		}
		fmt.Fprintf(w, "%s\t%s\t\n", took, seen)
	}
	w.Flush()
	lines := strings.Split(strings.TrimRight(table.String(), "\n"), "\n")
	text := "\nMEASURED" + lines[0]
	for i, row := range f.rows {
		text += fmt.Sprintf("\nMEASURED%s  %s", lines[i+1], row.what)
	}
	t.Log(text)
}
