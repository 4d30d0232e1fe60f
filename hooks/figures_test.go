package hooks_test

import (
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"
)

// campaignFor is the environment variable that says how long each part of the
// campaign of faults goes on, such as "1m". "make faults" sets it. Without it
// there is a short form of most parts, of seconds.
const campaignFor = "BLUEGREEN_FAULTS"

// campaign is how long a part of the campaign goes on, 0 for its short form.
func campaign(t *testing.T) time.Duration {
	t.Helper()
	text := os.Getenv(campaignFor)
	if text == "" {
		return 0
	}
	limit, err := time.ParseDuration(text)
	if err != nil || limit <= 0 {
		t.Fatalf("%s=%q is not a time such as 1m: %v", campaignFor, text, err)
	}
	return limit
}

// figures are a row of the campaign's table: what was counted.
type figures struct {
	what     string
	times    int // that a fault struck
	new, old int // what the web root held after it had been recovered from
	mixed    int // neither, or both
	stuck    int // not recovered, or the next push did not work
	lost     int // lines that the history should have, and torn ones
	hung     int // hooks that were left
}

// print prints the row, for "make faults" to put the table together.
func (f figures) print(t *testing.T) {
	t.Helper()
	row := "| " + f.what
	for _, n := range []int{f.times, f.new, f.old, f.mixed, f.stuck, f.lost, f.hung} {
		row += " | " + grouped(n)
	}
	t.Log(row + " |")
}

// grouped writes a number with commas, as people read it.
func grouped(n int) string {
	text := strconv.Itoa(n)
	for at := len(text) - 3; at > 0; at -= 3 {
		text = fmt.Sprintf("%s,%s", text[:at], text[at:])
	}
	return text
}
