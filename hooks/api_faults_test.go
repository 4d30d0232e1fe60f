package hooks_test

import (
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"bluegreen/internal/simulator"
)

// A trouble is one way in which DigitalOcean does not do what it should, and
// what a push of a tag to blue must make of it.
type trouble struct {
	name   string
	faults []simulator.Fault
	before func(c *cloud)
	status int    // of git push
	owner  string // at the end, as the API says
	posts  int    // requests for a move; 2 is there and back
	last   string // a pattern for the last line
}

const (
	ipPath      = "/v2/reserved_ips/" + reservedIP
	actionsPath = ipPath + "/actions"
)

func post(f simulator.Fault) []simulator.Fault {
	f.Method, f.Path = http.MethodPost, actionsPath
	return []simulator.Fault{f}
}

// get is for the readings of the IP itself, or of its actions.
func get(path string, f simulator.Fault) simulator.Fault {
	f.Method, f.Path = http.MethodGet, path
	return f
}

// message is an error as the API writes it.
func message(text string) string {
	return `{"id":"unprocessable_entity","message":"` + text + `","request_id":"r"}`
}

const (
	moved    = `^success: "release-2" \([0-9a-f]{7}\) is live: 203\.0\.113\.10 moved from green to blue`
	notMoved = `^error: 203\.0\.113\.10 did not move to blue[:,] .*`
)

var troubles = []trouble{
	// The answer to the request, applied and not applied.
	{name: "401", faults: post(simulator.Fault{Status: 401}), status: 1, owner: "green", posts: 1, last: notMoved + "401.*token"},
	{name: "401 though done", faults: post(simulator.Fault{Status: 401, Apply: true}), owner: "blue", posts: 1, last: moved},
	{name: "403", faults: post(simulator.Fault{Status: 403}), status: 1, owner: "green", posts: 1, last: notMoved + "403.*scope reserved_ip:update"},
	{name: "404", faults: post(simulator.Fault{Status: 404}), status: 1, owner: "green", posts: 1, last: notMoved + "404"},
	{name: "422 droplet pending", faults: post(simulator.Fault{Status: 422, Body: message("Droplet already has a pending event.")}), status: 1, owner: "green", posts: 1, last: notMoved + "Droplet already has a pending event.*green has"},
	{name: "422 IP pending", faults: post(simulator.Fault{Status: 422, Body: message("The floating IP already has a pending event.")}), status: 1, owner: "green", posts: 1, last: notMoved + "floating IP already has a pending event"},
	{name: "422 though done", faults: post(simulator.Fault{Status: 422, Apply: true}), owner: "blue", posts: 1, last: moved},
	{name: "429", faults: post(simulator.Fault{Status: 429}), status: 1, owner: "green", posts: 1, last: notMoved + "429"},
	{name: "429 for an hour", faults: post(simulator.Fault{Status: 429, Header: map[string]string{"Retry-After": "3600"}}), status: 1, owner: "green", posts: 1, last: notMoved + "429"},
	{name: "500", faults: post(simulator.Fault{Status: 500}), status: 1, owner: "green", posts: 1, last: notMoved + "500"},
	{name: "500 though done", faults: post(simulator.Fault{Status: 500, Apply: true}), owner: "blue", posts: 1, last: moved},
	{name: "503 in HTML", faults: post(simulator.Fault{Status: 503, Body: "<html>\x1b[31mcloudy"}), status: 1, owner: "green", posts: 1, last: notMoved + "503 with a body that is not JSON"},
	{name: "reset", faults: post(simulator.Fault{Reset: true}), status: 1, owner: "green", posts: 1, last: notMoved + "connection reset"},
	{name: "reset though done", faults: post(simulator.Fault{Reset: true, Apply: true}), owner: "blue", posts: 1, last: moved},
	{name: "hangs", faults: post(simulator.Fault{Hang: true}), status: 1, owner: "green", posts: 1, last: notMoved + "no complete answer within 10s"},
	{name: "hangs though done", faults: post(simulator.Fault{Hang: true, Apply: true}), owner: "blue", posts: 1, last: moved},
	{name: "cut off", faults: post(simulator.Fault{Cut: true}), owner: "blue", posts: 1, last: moved},
	{name: "endless", faults: post(simulator.Fault{Status: 201, Body: "{", Endless: true}), status: 1, owner: "green", posts: 1, last: notMoved},
	{name: "empty object", faults: post(simulator.Fault{Status: 201, Body: "{}"}), status: 1, owner: "green", posts: 1, last: notMoved},
	{name: "empty object though done", faults: post(simulator.Fault{Status: 201, Body: "{}", Apply: true}), owner: "blue", posts: 1, last: moved},
	{name: "redirect", faults: post(simulator.Fault{Status: 307, Header: map[string]string{"Location": "http://127.0.0.1:1/steal"}}), status: 1, owner: "green", posts: 1, last: notMoved + "redirect"},
	{name: "the token echoed", faults: post(simulator.Fault{Status: 403, Body: message("no: Bearer " + canary)}), status: 1, owner: "green", posts: 1, last: notMoved + `\[token\]`},

	// What the action ends with.
	{name: "errored", faults: post(simulator.Fault{ActionStatus: "errored"}), status: 1, owner: "green", posts: 1, last: notMoved + `"errored"; green has`},
	{name: "errored though done", faults: post(simulator.Fault{ActionStatus: "errored", Apply: true}), owner: "blue", posts: 1, last: moved},
	{name: "completed and not done", faults: post(simulator.Fault{ActionStatus: "completed"}), status: 1, owner: "green", posts: 1, last: notMoved + `"completed"; green has`},
	{name: "unheard of", faults: post(simulator.Fault{ActionStatus: "on-strike"}), status: 1, owner: "green", posts: 1, last: notMoved + `"on-strike"; green has`},
	{name: "unheard of though done", faults: post(simulator.Fault{ActionStatus: "on-strike", Apply: true}), owner: "blue", posts: 1, last: moved},
	{name: "never ends", faults: post(simulator.Fault{ActionStatus: "in-progress"}), status: 1, owner: "green", posts: 1,
		last: `^error: nobody can tell where 203\.0\.113\.10 is \(action \d+\)`},
	{name: "the single action is not found", owner: "blue", posts: 1, last: moved,
		faults: []simulator.Fault{get(actionsPath+"/*", simulator.Fault{Status: 404, Times: -1})}},
	{name: "a third droplet gets it", status: 1, owner: "another", posts: 1, last: notMoved + "droplet 42",
		faults: post(simulator.Fault{ActionStatus: "completed", Do: func(c *simulator.Cloud) { c.SetOwner(reservedIP, 42) }})},

	// Readings.
	{name: "reading fails now and then", owner: "blue", posts: 1, last: moved, faults: []simulator.Fault{
		get(ipPath, simulator.Fault{Status: 500, Skip: 1}), get(ipPath, simulator.Fault{Reset: true, Skip: 2}),
		get(actionsPath, simulator.Fault{Body: "<html>", Status: 502, Skip: 1}), get(ipPath, simulator.Fault{Cut: true, Skip: 3})}},
	{name: "too many readings", owner: "blue", posts: 1, last: moved,
		faults: []simulator.Fault{get(ipPath, simulator.Fault{Status: 429, Skip: 1})}},
	{name: "nobody answers", status: 1, owner: "green", posts: 0, last: "^error: .*it cannot be told who has 203.0.113.10",
		faults: []simulator.Fault{get("/v2/", simulator.Fault{Status: 500, Times: -1})}},
	{name: "nobody answers any more", status: 1, owner: "blue", posts: 1, last: `^error: nobody can tell where 203\.0\.113\.10 is \(action \d+\)`,
		faults: post(simulator.Fault{Do: func(c *simulator.Cloud) {
			c.Script(get("/v2/", simulator.Fault{Status: 500, Times: -1}))
		}})},
	{name: "readings without the IP", status: 1, owner: "green", posts: 0, last: "^error: .*answer without",
		faults: []simulator.Fault{get(ipPath, simulator.Fault{Body: "{}", Times: -1})}},
	{name: "readings are endless", status: 1, owner: "green", posts: 0, last: "^error: .*more than 65536 bytes",
		faults: []simulator.Fault{get(ipPath, simulator.Fault{Body: "{", Endless: true, Times: -1})}},

	// What must not be moved.
	{name: "a stranger has it", before: func(c *cloud) { c.SetOwner(reservedIP, 42) }, status: 1, owner: "another", last: "^error: 203.0.113.10 is not ours to move: it belongs to droplet 42"},
	{name: "a stranger takes it while we wait", status: 1, owner: "another", last: "^error: .*not ours to move: it belongs to droplet 42",
		before: func(c *cloud) {
			c.SetLocked(reservedIP, true)
			c.Script(get(ipPath, simulator.Fault{Skip: 1, Do: func(s *simulator.Cloud) {
				s.SetOwner(reservedIP, 42)
				s.SetLocked(reservedIP, false)
			}}))
		}},
	{name: "nobody has it", before: func(c *cloud) { c.SetOwner(reservedIP, 0) }, owner: "blue", posts: 1, last: `^success: .*203\.0\.113\.10, which nobody had, moved to blue`},
	{name: "another region", status: 1, owner: "green", last: "^error: .*nyc3.*fra1",
		before: func(c *cloud) {
			c.Script(get("/v2/droplets/*", simulator.Fault{Times: -1, Body: `{"droplet":{"id":3164494,"name":"blue","status":"active","region":{"slug":"nyc3"}}}`}))
		}},
	{name: "the droplet is off", before: func(c *cloud) { c.SetDropletStatus(blueDroplet, "off") }, status: 1, owner: "green", last: "^error: droplet 3164494 .* is off"},
	{name: "the droplet holds another", before: func(c *cloud) { c.AddIP("203.0.113.11", "fra1", blueDroplet) }, status: 1, owner: "green", last: "^error: .*holds 203.0.113.11 already"},
	{name: "there already", before: func(c *cloud) { c.SetOwner(reservedIP, blueDroplet) }, owner: "blue", last: `^success: .*203\.0\.113\.10 was with blue already`},

	// What the outside sees.
	{name: "the outside does not see it", status: 1, owner: "green", posts: 2, last: `^error: the outside does not see the release: "production" is not healthy: .*; 203\.0\.113\.10 is back with green`,
		faults: post(simulator.Fault{Apply: true, Do: func(c *simulator.Cloud) {}}), before: func(c *cloud) { c.breakOutside() }},
	{name: "and it cannot go back", status: 1, owner: "blue", posts: 1, last: `^error: the outside does not see the release: .*; and 203\.0\.113\.10 stays with blue: droplet 3164495 \(green\) is off`,
		before: func(c *cloud) {
			c.breakOutside()
			c.Script(post(simulator.Fault{Apply: true, Do: func(s *simulator.Cloud) { s.SetDropletStatus(greenDroplet, "off") }})...)
		}},
	{name: "and going back is not answered", status: 1, owner: "green", posts: 2, last: `is back with green`,
		before: func(c *cloud) {
			c.breakOutside()
			f := post(simulator.Fault{Reset: true, Apply: true, Skip: 1})
			c.Script(f...)
		}},
	{name: "somebody takes it at once", status: 1, owner: "green", posts: 1, last: `has been taken from blue in the meantime: green has it now|does not see the release: .*green has 203`,
		faults: []simulator.Fault{get(ipPath, simulator.Fault{Skip: 8, Do: func(c *simulator.Cloud) { c.SetOwner(reservedIP, greenDroplet) }})}},
}

// breakOutside makes what arrives from outside reach nobody.
func (c *cloud) breakOutside() { c.outside.SetDown(true) }

// TestAPITroubles plays them all, each in a cloud of its own. They mostly wait:
// so they wait together.
func TestAPITroubles(t *testing.T) {
	t.Parallel()
	if len(troubles) < 25 {
		t.Errorf("%d are too few", len(troubles))
	}
	bin := buildWithFaults(t)
	var wg sync.WaitGroup
	slots := make(chan struct{}, 16)
	for _, trouble := range troubles {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			trouble.play(t, bin)
		})
	}
	wg.Wait()
}

func (tr trouble) play(t *testing.T, bin string) { tr.playIn(t, newCloud, bin) }

// playIn plays it in a cloud that is made so.
func (tr trouble) playIn(t *testing.T, newCloud func(t testing.TB, bin, config string, hooks ...string) *cloud, bin string) {
	t.Run(strings.ReplaceAll(tr.name, " ", "-"), func(t *testing.T) {
		c := newCloud(t, bin, "", allHooks...)
		c.AddDroplet(42, "stranger", "fra1")
		commit := c.blue.commit(map[string]string{"index.html": "v2\n"})
		if status, out := c.push(nil, "blue", "master"); status != 0 {
			t.Fatalf("status %d\n%s", status, out)
		}
		c.Script(tr.faults...)
		if tr.before != nil {
			tr.before(c)
		}
		c.blue.run(c.blue.dev, "git", "tag", "release-2")
		began := time.Now()
		status, out := c.push(nil, "blue", "release-2")
		took := time.Since(began)
		if status != tr.status || c.owner() != tr.owner || c.posts() != tr.posts || c.Unassigns() != 0 {
			t.Errorf("status %d, %s has the IP after %d requests; want status %d, %s after %d\n%s",
				status, c.owner(), c.posts(), tr.status, tr.owner, tr.posts, out)
		}
		if !regexp.MustCompile(tr.last).MatchString(lastLine(out)) {
			t.Errorf("the last line is %q, want %q", lastLine(out), tr.last)
		}
		if took > 45*time.Second {
			t.Errorf("it took %s", took)
		}
		want := ""
		if tr.status == 0 {
			want = commit
		}
		if got := c.blue.ref("refs/tags/release-2"); got != want {
			t.Errorf("the tag is at %q, want %q", got, want)
		}
		c.secret(out)
	})
}
