package hooks_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestPromotionAtSystemCalls kills the very programs that are released at their
// system calls, from outside, while they promote or roll back, and half of the time
// the recovery, too. What is said in the end is what the API says.
func TestPromotionAtSystemCalls(t *testing.T) {
	t.Parallel()
	limit := campaign(t)
	if limit == 0 {
		t.Skipf("it takes its time: make faults, which sets %s", campaignFor)
	}
	bin, err := releasedPrograms()
	must(t, err)
	for _, k := range []promotionKilling{
		{name: "promotion by a tag", args: []string{"release-2"}},
		{name: "promotion that the outside does not see", args: []string{"release-2"}, broken: true},
		{name: "deployment and promotion at once", args: []string{"--atomic", "master", "release-2"}, deploys: true},
		{name: "rollback"},
	} {
		k.bin = bin
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			k.campaign(t, limit)
		})
	}
}

func (k promotionKilling) campaign(t *testing.T, limit time.Duration) {
	w := k.newWalker(t)
	(&walker{server: w.blue}).wrap("proc-receive")
	r := rand.New(rand.NewPCG(rand.Uint64(), 2))
	trace := filepath.Join(w.blue.dir, "trace")
	killed, recoveries, moved, stayed := 0, 0, 0, 0
	end := time.Now().Add(limit)
	for n := 0; time.Now().Before(end) && !t.Failed(); n++ { // one failure is enough to read
		w.reset()
		s := strike{calls: calls[n%len(calls)], when: 1 + r.IntN(8), how: "signal=KILL"}
		what := s.String()
		must(t, os.RemoveAll(trace))
		w.attempt(s.strace(trace))
		hit := struck(trace)
		if hit {
			killed++
			if r.IntN(2) == 0 {
				again := strike{calls: calls[r.IntN(len(calls))], when: 1 + r.IntN(12), how: "signal=KILL"}
				what += ", and of the recovery, " + again.String()
				must(t, os.RemoveAll(trace))
				command := append(again.strace(trace), filepath.Join(w.blue.bin, "bluegreen"), "recover")
				if w.blue.status(nil, w.blue.git, command[0], command[1:]...); struck(trace) {
					recoveries++
				}
			}
		}
		w.blue.ageScratch()
		status, out := w.blue.status(nil, w.blue.git, "bluegreen", "recover")
		if status != 0 {
			w.Errorf("%s: recover: status %d\n%s", what, status, out)
		}
		w.secret(out)
		w.agrees(what, out)
		switch {
		case !hit:
		case w.owner() == w.wanted():
			moved++
		default:
			stayed++
		}
	}
	figures{what: fmt.Sprintf("%s: at system calls (killed: %s, the recovery, too: %s)", k.name, grouped(killed), grouped(recoveries)),
		times: killed, new: moved, old: stayed}.print(t)
}

// wanted is where the traffic is to go.
func (w *promotionWalker) wanted() string {
	if len(w.args) == 0 {
		return "green"
	}
	return "blue"
}

// attempt promotes, or rolls back from blue to green, beneath another program.
func (w *promotionWalker) attempt(command []string) {
	w.Helper()
	if len(w.args) > 0 {
		w.push([]string{"STRIKE=" + strings.Join(command, " ")}, "blue", w.args...)
		return
	}
	if status, out := w.push(nil, "blue", "release-2"); status != 0 {
		w.Errorf("before a rollback: status %d\n%s", status, out)
	}
	command = append(command, filepath.Join(w.blue.bin, "bluegreen"), "rollback")
	w.blue.status(nil, w.blue.git, command[0], command[1:]...)
}

// agrees holds what the server says against the API.
func (w *promotionWalker) agrees(what, said string) {
	w.Helper()
	if len(w.args) > 0 {
		w.verify(what, said)
		return
	}
	var status struct {
		LiveEnvironment string `json:"live_environment"`
		Unfinished      any
		Drift           []string
	}
	out := w.blue.run(w.blue.git, "bluegreen", "status", "--json")
	if err := json.Unmarshal([]byte(out), &status); err != nil {
		w.Errorf("%s: status: %v\n%s", what, err, out)
	}
	if owner := w.owner(); status.LiveEnvironment != owner || status.Unfinished != nil || len(status.Drift) > 0 || w.Unassigns() != 0 {
		w.Errorf("%s: the API says %s, and status\n%s\n%s", what, owner, out, said)
	}
}
