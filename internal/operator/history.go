package operator

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"bluegreen/internal/journal"
)

func (a *app) historyCommand() *cobra.Command {
	var n int
	c := a.jsonFlag(&cobra.Command{
		Use:     "history",
		Short:   "what was deployed, when, by whom, and what was refused",
		Example: "  bluegreen history -n 5\n  bluegreen history --json | jq '.[] | select(.result == \"failed\")'",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if n < 1 {
				return fmt.Errorf("--number must be 1 or more, not %d", n)
			}
			e, err := a.open()
			if err != nil {
				return err
			}
			events, err := e.Journal.Events(n)
			if err != nil {
				return a.fail(err)
			}
			if a.json {
				if events == nil {
					events = []journal.Event{}
				}
				return a.printJSON(events)
			}
			newScreen(a.Stdout, a.getenv).history(events)
			return nil
		},
	})
	c.Flags().IntVarP(&n, "number", "n", 20, "how many events, the newest last")
	return c
}

// shortRef is a ref as people say it; "-" for a deployment without one.
func shortRef(ref string) string {
	for _, prefix := range []string{"refs/heads/", "refs/tags/"} {
		if short, found := strings.CutPrefix(ref, prefix); found {
			return short
		}
	}
	if ref == "" {
		return "-"
	}
	return ref
}
