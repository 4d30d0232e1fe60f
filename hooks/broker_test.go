package hooks_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"

	"bluegreen/internal/broker"
	"bluegreen/internal/digitalocean"
)

// playBroker is the broker's program, without the trust in root's files: it is
// told the API, the token's file and how it fails.
func playBroker() {
	api, token, fails, question := os.Args[1], os.Args[2], os.Args[3], os.Args[4:]
	assigns := question[0] == "assign"
	if assigns && fails == "before" {
		os.Exit(1) // as sudo that refuses
	}
	s := &broker.Server{Open: func() (broker.Provider, []string, error) {
		p, err := digitalocean.New(digitalocean.Options{IP: reservedIP, Droplets: map[string]int{"blue": blueDroplet, "green": greenDroplet},
			Self: "blue", APIURL: api, Token: func() (string, error) { return digitalocean.ReadToken(token) }})
		return p, []string{"blue", "green"}, err
	}}
	var answer strings.Builder
	err := s.Answer(context.Background(), question, &answer)
	switch {
	case err != nil:
		os.Exit(2)
	case assigns && fails == "after":
		os.Exit(1)
	case assigns && fails == "garbage":
		fmt.Print("\x1b[31m{}")
	default:
		io.WriteString(os.Stdout, answer.String())
	}
	os.Exit(0)
}

// newBrokered is newCloud with brokers, which alone can find the token.
func newBrokered(fails string) func(t testing.TB, bin, config string, hooks ...string) *cloud {
	return func(t testing.TB, bin, config string, hooks ...string) *cloud {
		t.Helper()
		c := newCloud(t, bin, config, hooks...)
		program, err := exec.LookPath("broker")
		must(t, err)
		for _, s := range []*server{c.blue, c.green} {
			c.edit(s, fmt.Sprintf("token_file = %q\n", c.token),
				fmt.Sprintf("token_file = \"/there/is/none\"\nbroker = [%q, %q, %q, %q]\n", program, c.api, c.token, fails))
		}
		return c
	}
}

// TestBrokerTroubles makes of what goes wrong behind a broker what is made of it
// without one. A broker that goes away may have asked for the IP.
func TestBrokerTroubles(t *testing.T) {
	t.Parallel()
	var wg sync.WaitGroup
	play := func(tr trouble, fails string) {
		wg.Go(func() { tr.playIn(t, newBrokered(fails), played) })
	}
	for _, name := range []string{"401", "401 though done", "422 though done", "500 though done", "reset", "reset though done", "cut off",
		"the token echoed", "errored", "completed and not done", "nobody answers any more", "readings without the IP", "a stranger has it", "nobody has it",
		"the droplet is off", "there already", "and it cannot go back", "and going back is not answered"} {
		n := slices.IndexFunc(troubles, func(tr trouble) bool { return tr.name == name })
		if n < 0 {
			t.Errorf("there is no %q", name)
			continue
		}
		play(troubles[n], "never")
	}
	gone := `the broker gave no answer: "[^"]*" exited with status 1.*green has`
	play(trouble{name: "no broker", status: 1, owner: "green", last: notMoved + gone}, "before")
	play(trouble{name: "the broker goes", owner: "blue", posts: 1, last: moved}, "after")
	play(trouble{name: "the broker talks nonsense", owner: "blue", posts: 1, last: moved}, "garbage")
	wg.Wait()
}
