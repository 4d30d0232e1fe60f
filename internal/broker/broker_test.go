package broker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"bluegreen/internal/command"
	"bluegreen/internal/promotion"
)

// serves has this program be a broker, whose provider says what the variable
// tells; prints has it print that instead.
const (
	serves = "BROKER_TEST_SERVES"
	prints = "BROKER_TEST_PRINTS"
)

func TestMain(m *testing.M) {
	command.Become(os.Args[1:])
	if text, set := os.LookupEnv(prints); set {
		fmt.Print(text)
		if strings.Contains(text, "fails") {
			os.Exit(1)
		}
		os.Exit(0)
	}
	if says := os.Getenv(serves); says != "" {
		s := &Server{Open: func() (Provider, []string, error) {
			if says == "closed" {
				return nil, nil, errors.New("the token may be changed by others")
			}
			return provider(says), []string{"blue", "green"}, nil
		}}
		if err := s.Answer(context.Background(), os.Args[1:], os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(2)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// A provider says one thing.
type provider string

func (p provider) err() error {
	switch p {
	case "misfit":
		return &promotion.Misfit{Reason: "it is off", Hint: "power it on"}
	case "rejects":
		return fmt.Errorf("asking: %w", &promotion.Rejection{Err: errors.New("403: no \x1b[31m")})
	case "fails":
		return errors.New("a timeout\nor so " + strings.Repeat("ä", maxText))
	}
	return nil
}

func (p provider) State(_ context.Context, to string) (*promotion.State, error) {
	s := &promotion.State{Owner: "green"}
	switch {
	case p == "foreign":
		s = &promotion.State{Foreign: "it belongs to droplet 42 (\"\x1b\")", Hidden: true}
	case to != "":
		s.Busy, s.Occupied, s.Actions = "locked", "an event", []promotion.Action{{ID: 7, Status: "in-progress"}}
	}
	return s, p.err()
}

func (p provider) Fit(context.Context, string) error { return p.err() }

func (p provider) Assign(_ context.Context, to string, running func(int) error) (int, error) {
	running(1)
	if p == "numberless" {
		return 0, nil
	}
	return map[string]int{"blue": 41, "green": 42}[to], p.err()
}

func (p provider) Address(_ context.Context, to string) (string, error) {
	return map[string]string{"blue": "10.0.0.1"}[to], p.err()
}

func client(t *testing.T, variable, says string) *Client {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return &Client{Argv: []string{self}, Env: []string{variable + "=" + says, "GORACE=atexit_sleep_ms=0"},
		Environments: []string{"blue", "green"}, Timeout: time.Minute}
}

// TestThrough has each answer come through as it was given.
func TestThrough(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	c := client(t, serves, "well")
	for to, want := range map[string]*promotion.State{
		"":     {Owner: "green"},
		"blue": {Owner: "green", Busy: "locked", Occupied: "an event", Actions: []promotion.Action{{ID: 7, Status: "in-progress"}}},
	} {
		if s, err := c.State(ctx, to); err != nil || !reflect.DeepEqual(s, want) {
			t.Errorf("state %q: %+v, %v", to, s, err)
		}
	}
	if err := c.Fit(ctx, "blue"); err != nil {
		t.Errorf("fit: %v", err)
	}
	pid := 0
	if action, err := c.Assign(ctx, "blue", func(p int) error { pid = p; return nil }); action != 41 || err != nil || pid <= 1 {
		t.Errorf("assign: %d, %v, by %d", action, err, pid)
	}
	for to, want := range map[string]string{"blue": "10.0.0.1", "green": ""} {
		if got, err := c.Address(ctx, to); got != want || err != nil {
			t.Errorf("address %s: %q, %v", to, got, err)
		}
	}
	if action, err := client(t, serves, "numberless").Assign(ctx, "blue", noted); action != 0 || err != nil {
		t.Errorf("assign without a number: %d, %v", action, err)
	}
	s, err := client(t, serves, "foreign").State(ctx, "")
	if err != nil || !s.Hidden || s.Foreign != `it belongs to droplet 42 ("\x1b")` {
		t.Errorf("a stranger's: %+v, %v", s, err)
	}
}

// TestErrors keeps apart what errors mean.
func TestErrors(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	misfit := (*promotion.Misfit)(nil)
	if err := client(t, serves, "misfit").Fit(ctx, "blue"); !errors.As(err, &misfit) || misfit.Reason != "it is off" || misfit.Hint != "power it on" {
		t.Errorf("a misfit: %v", err)
	}
	for says, want := range map[string]string{"rejects": `refused: 403: no \x1b[31m`, "closed": "refused: the token may be changed by others"} {
		_, err := client(t, serves, says).Assign(ctx, "blue", noted)
		if rejection := (*promotion.Rejection)(nil); !errors.As(err, &rejection) || err.Error() != want {
			t.Errorf("%s: %v", says, err)
		}
	}
	c := client(t, serves, "fails")
	_, stateErr := c.State(ctx, "blue")
	_, assignErr := c.Assign(ctx, "blue", noted)
	_, addressErr := c.Address(ctx, "blue")
	for _, err := range []error{stateErr, c.Fit(ctx, "blue"), assignErr, addressErr} {
		unanswered, rejection := (*Unanswered)(nil), (*promotion.Rejection)(nil)
		if err == nil || errors.As(err, &rejection) || errors.As(err, &unanswered) || !strings.HasPrefix(err.Error(), `a timeout\nor so ä`) || len(err.Error()) > maxText+10 {
			t.Errorf("a failure: %v", err)
		}
	}
}

// TestGarbage believes nothing that is no answer. An assignment may have been
// asked for then.
func TestGarbage(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"nothing":            "",
		"words":              "sudo: a password is required\n",
		"an exit":            `{"question":"assign blue","action":41} fails`,
		"null":               "null",
		"no object":          "[]",
		"another question":   `{"question":"assign green","action":41}`,
		"no question":        `{"action":41}`,
		"no answer":          `{"question":"assign blue"}`,
		"another answer":     `{"question":"assign blue","fits":true}`,
		"two answers":        `{"question":"assign blue","action":41,"error":"x"}`,
		"two objects":        `{"question":"assign blue","action":41}{}`,
		"something after it": `{"question":"assign blue","action":41} x`,
		"half of one":        `{"question":"assign blue","act`,
		"an unknown key":     `{"question":"assign blue","action":41,"more":1}`,
		"a negative action":  `{"question":"assign blue","action":-1}`,
		"a huge one":         `{"question":"assign blue","error":"` + strings.Repeat("x", 70_000) + `"}`,
		"a rejection's half": `{"question":"assign blue","rejected":""}`,
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			_, err := client(t, prints, text).Assign(t.Context(), "blue", noted)
			rejection, unanswered := (*promotion.Rejection)(nil), (*Unanswered)(nil)
			if errors.As(err, &rejection) || !errors.As(err, &unanswered) || len(err.Error()) > 1500 {
				t.Errorf("got %v", err)
			}
		})
	}
	for text, ask := range map[string]func(*Client) error{
		`{"question":"state","state":{"Owner":"red"}}`:                func(c *Client) error { _, err := c.State(t.Context(), ""); return err },
		`{"question":"state","state":{"Owner":"blue","Foreign":"x"}}`: func(c *Client) error { _, err := c.State(t.Context(), ""); return err },
		`{"question":"state","state":{"Ownerr":"blue"}}`:              func(c *Client) error { _, err := c.State(t.Context(), ""); return err },
		`{"question":"address blue","address":"evil.example.com"}`:    func(c *Client) error { _, err := c.Address(t.Context(), "blue"); return err },
	} {
		if unanswered := (*Unanswered)(nil); !errors.As(ask(client(t, prints, text)), &unanswered) {
			t.Errorf("%s is believed", text)
		}
	}
}

// TestNotStarted proves that nothing was asked for, where no broker ran.
func TestNotStarted(t *testing.T) {
	t.Parallel()
	over, cancel := context.WithCancel(t.Context())
	cancel()
	missing := client(t, serves, "well")
	missing.Argv = []string{"there-is-no-such-sudo"}
	for name, ask := range map[string]func() (int, error){
		"no program":  func() (int, error) { return missing.Assign(t.Context(), "blue", noted) },
		"over before": func() (int, error) { return client(t, serves, "well").Assign(over, "blue", noted) },
		"unknown":     func() (int, error) { return client(t, serves, "well").Assign(t.Context(), "red", noted) },
	} {
		_, err := ask()
		if rejection := (*promotion.Rejection)(nil); !errors.As(err, &rejection) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// sudo that refuses, or is killed, cannot be told from a broker that was.
	for _, script := range []string{"exit 1", "kill -9 $$", "exec sleep 60"} {
		c := client(t, serves, "well")
		c.Argv = []string{"/bin/sh", "-c", script}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		_, err := c.Assign(ctx, "blue", noted)
		cancel()
		if rejection := (*promotion.Rejection)(nil); err == nil || errors.As(err, &rejection) {
			t.Errorf("%s: %v", script, err)
		}
	}
}

// TestQuestions answers no other ones than those that may be asked.
func TestQuestions(t *testing.T) {
	t.Parallel()
	opened := false
	s := &Server{Open: func() (Provider, []string, error) { opened = true; return provider("well"), []string{"blue"}, nil }}
	for _, question := range [][]string{nil, {""}, {"fit"}, {"assign"}, {"address"}, {"unassign", "blue"}, {"State"}, {"state", "blue", "blue"}, {"assign", "blue", "x"}} {
		var out strings.Builder
		if err := s.Answer(t.Context(), question, &out); err == nil || out.Len() > 0 || opened {
			t.Errorf("%q is answered %q, %v", question, out.String(), err)
		}
	}
	for question, want := range map[string]string{
		"assign red": `{"question":"assign red","rejected":"\"red\" is none of the broker's environments"}`,
		"assign ":    `{"question":"assign ","rejected":"\"\" is none of the broker's environments"}`,
		"fit red":    `{"question":"fit red","error":"\"red\" is none of the broker's environments"}`,
		"fit blue":   `{"question":"fit blue","fits":true}`,
	} {
		var out strings.Builder
		if err := s.Answer(t.Context(), strings.Split(question, " "), &out); err != nil || strings.TrimSpace(out.String()) != want {
			t.Errorf("%q is answered %s, %v", question, out.String(), err)
		}
	}
	if got := Questions([]string{"blue", "green"}); len(got) != 9 || !slices.Equal(got[0], []string{"state"}) || !slices.Equal(got[8], []string{"address", "green"}) {
		t.Errorf("the questions are %q", got)
	}
	for timeout, want := range map[time.Duration]time.Duration{3 * time.Minute: 30 * time.Second, 20 * time.Second: 5 * time.Second} {
		if got := Deadline(timeout); got != want {
			t.Errorf("of %s the broker has %s", timeout, got)
		}
	}
}

// TestPrivate refuses what others than root could change.
func TestPrivate(t *testing.T) {
	t.Parallel()
	top := t.TempDir()
	dir := filepath.Join(top, "etc", "bluegreen")
	file := filepath.Join(dir, "app.toml")
	must(t, os.MkdirAll(dir, 0o755))
	must(t, os.Chmod(top, 0o755))
	me := os.Geteuid()
	fresh := func() {
		must(t, os.RemoveAll(file))
		must(t, os.WriteFile(file, nil, 0o644))
		must(t, os.Chmod(dir, 0o755))
	}
	fresh()
	must(t, Private(top, file, me))
	for want, harm := range map[string]func(){
		`others than root may change "` + file + `"`: func() { must(t, os.Chmod(file, 0o664)) },
		`others than root may change "` + dir + `"`:  func() { must(t, os.Chmod(dir, 0o757)) },
		`is not a regular file`:                      func() { must(t, os.Remove(file)); must(t, os.Symlink("other", file)) },
		`no such file`:                               func() { must(t, os.Remove(file)) },
	} {
		fresh()
		harm()
		if err := Private(top, file, me); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	fresh()
	if err := Private(top, file, me+1); err == nil {
		t.Error("another's file is taken for root's")
	}
	must(t, os.Symlink("etc", filepath.Join(top, "link")))
	for _, path := range []string{filepath.Join(top, "link/bluegreen/app.toml"), "app.toml", dir + "/../bluegreen/app.toml"} {
		if err := Private(top, path, me); err == nil {
			t.Errorf("%s is taken", path)
		}
	}
}

// TestAlone closes what was inherited and nothing else.
func TestAlone(t *testing.T) {
	if os.Getenv("BROKER_TEST_ALONE") == "" {
		t.Skip("see TestAloneAgain")
	}
	own, err := os.Open("/dev/null")
	must(t, err)
	defer own.Close()
	must(t, Alone())
	if _, err := own.Stat(); err != nil {
		t.Errorf("our own file is closed: %v", err)
	}
	if _, err := unix.FcntlInt(3, unix.F_GETFD, 0); err == nil {
		t.Error("what was inherited is open")
	}
	if mask := unix.Umask(0o077); mask != 0o077 || len(os.Environ()) > 0 {
		t.Errorf("the mask is %#o, the environment %q", mask, os.Environ())
	}
}

// TestAloneAgain runs TestAlone in a process of its own, with an inherited file.
func TestAloneAgain(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	must(t, err)
	file, err := os.Open("/dev/null")
	must(t, err)
	defer file.Close()
	c := exec.Command(self, "-test.run=^TestAlone$", "-test.v")
	c.Env = append(os.Environ(), "BROKER_TEST_ALONE=1", "GORACE=atexit_sleep_ms=0")
	c.ExtraFiles = []*os.File{file}
	if out, err := c.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// FuzzAnswer reads what says that it is the broker.
func FuzzAnswer(f *testing.F) {
	for i, text := range []string{`{"question":"state","state":{"Owner":"green"}}`, `{"question":"fit blue","misfit":{"Reason":"off"}}`,
		`{"question":"assign blue","action":41}`, `{"question":"address blue","address":"10.0.0.1"}`, `{"question":"fit blue","error":"\u001b[2J"}`} {
		f.Add(uint8(i), text)
	}
	questions := Questions([]string{"blue"})
	f.Fuzz(func(t *testing.T, n uint8, text string) {
		question := questions[int(n)%len(questions)]
		a, err := decode(text, question)
		if err != nil {
			if len(err.Error()) > 5000 {
				t.Errorf("an error of %d bytes", len(err.Error()))
			}
			return
		}
		if a.Question != strings.Join(question, " ") {
			t.Errorf("%q answers %q", text, question)
		}
		if cleaned := clean(a.Error); len(cleaned) > 4*maxText+10 || strings.ContainsFunc(cleaned, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			t.Errorf("%q would be printed", cleaned)
		}
		// What was believed says the same when it is said again.
		again, err := json.Marshal(a)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := decode(string(again), question); err != nil || !reflect.DeepEqual(a, b) {
			t.Errorf("%q is read as %+v, and then as %+v, %v", text, a, b, err)
		}
	})
}

func noted(int) error { return nil }
