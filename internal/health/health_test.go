package health

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unicode"

	"golang.org/x/sys/unix"
)

// once asks a check a single time, with ample time to answer.
func once(c Check) Check {
	c.Within, c.Interval = 5*time.Second, 5*time.Second
	if c.Timeout == 0 {
		c.Timeout = 5 * time.Second
	}
	return c
}

// often asks a check as fast as it can.
func often(c Check) Check {
	c.Timeout, c.Within, c.Interval = 5*time.Second, 5*time.Second, time.Millisecond
	return c
}

// run asks one check, and looks at what holds for every result.
func run(t *testing.T, c Check, s Subject) Result {
	t.Helper()
	return runContext(t.Context(), t, c, s)
}

func runContext(ctx context.Context, t *testing.T, c Check, s Subject) Result {
	t.Helper()
	start := time.Now()
	results := Run(ctx, []Check{c}, s, nil)
	took := time.Since(start)
	if len(results) != 1 {
		t.Fatalf("%d results of one check", len(results))
	}
	r := results[0]
	if r.Name != c.Name {
		t.Errorf("name %q, want %q", r.Name, c.Name)
	}
	if r.Took <= 0 || r.Took > took {
		t.Errorf("says that it took %s, took %s", r.Took, took)
	}
	if strings.ContainsFunc(r.Last, func(r rune) bool { return !unicode.IsPrint(r) }) || len(r.Last) > 2000 {
		t.Errorf("last is not for the terminal: %q", r.Last)
	}
	return r
}

// sequence is a server that gives its answers in turn, the last one for ever.
func sequence(t *testing.T, statuses ...int) *httptest.Server {
	var mu sync.Mutex
	asked := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		status := statuses[min(asked, len(statuses)-1)]
		asked++
		w.WriteHeader(status)
		fmt.Fprintf(w, "answer %d", asked)
	}))
	t.Cleanup(server.Close)
	return server
}

func TestRecovers(t *testing.T) {
	t.Parallel()
	server := sequence(t, 500, 404, 503, 200)
	var seen []string
	results := Run(t.Context(), []Check{often(Check{Name: "home", URL: server.URL})}, Subject{},
		func(name string, attempt int, last string) {
			seen = append(seen, fmt.Sprintf("%s %d: %s", name, attempt, last))
		})
	if r := results[0]; !r.Healthy || r.Attempts != 4 || r.Last != "status 200" || r.Lines != nil {
		t.Errorf("%+v", r)
	}
	want := []string{
		`home 1: status 500, body "answer 1"`,
		`home 2: status 404, body "answer 2"`,
		`home 3: status 503, body "answer 3"`,
		`home 4: status 200`,
	}
	if !slices.Equal(seen, want) {
		t.Errorf("observed %q, want %q", seen, want)
	}
}

func TestSuccessesInARow(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		successes, attempts int
		statuses            []int
	}{
		{0, 1, []int{200}},
		{1, 1, []int{200}},
		{2, 2, []int{200}},
		{3, 8, []int{200, 200, 500, 200, 500, 200, 200, 200, 500}},
	} {
		c := often(Check{URL: sequence(t, test.statuses...).URL})
		c.Successes = test.successes
		if r := run(t, c, Subject{}); !r.Healthy || r.Attempts != test.attempts || r.Last != "status 200" {
			t.Errorf("%d in a row of %d: %+v", test.successes, test.statuses, r)
		}
	}
	c := often(Check{URL: sequence(t, 200).URL, Successes: 1_000_000})
	c.Within = 300 * time.Millisecond
	r := run(t, c, Subject{})
	var row int
	if _, err := fmt.Sscanf(r.Last, "status 200, healthy %d of 1000000 times in a row", &row); err != nil || r.Healthy {
		t.Errorf("%+v: %v", r, err)
	}
	if row < 2 || row != r.Attempts && row != r.Attempts-1 { // the last may have been cut short
		t.Errorf("%d of %d attempts", row, r.Attempts)
	}
}

func TestWithin(t *testing.T) {
	t.Parallel()
	c := Check{URL: sequence(t, 500).URL, Timeout: time.Minute, Interval: 20 * time.Millisecond, Within: 400 * time.Millisecond}
	r := run(t, c, Subject{})
	if r.Healthy || r.Attempts < 2 || r.Attempts > 20 || !strings.HasPrefix(r.Last, `status 500, body "answer `) {
		t.Errorf("%+v", r)
	}
	if r.Took < 200*time.Millisecond || r.Took > 2*time.Second {
		t.Errorf("took %s", r.Took)
	}
	// Where no attempt fits in any more, nobody waits for the end.
	c.Interval, c.Within = time.Hour, time.Hour
	if r := run(t, c, Subject{}); r.Attempts != 1 || r.Took > time.Second {
		t.Errorf("%+v", r)
	}
}

// silent is a server that never answers. arrived and left, if not nil, are told.
func silent(t *testing.T, arrived, left func()) string {
	return listen(t, func(conn net.Conn) {
		if arrived != nil {
			arrived()
		}
		untilClosed(conn)
		if left != nil {
			left()
		}
	})
}

// The interval begins where the attempt ends, also where that took longer than
// the interval.
func TestInterval(t *testing.T) {
	t.Parallel()
	const interval = 100 * time.Millisecond
	var mu sync.Mutex
	var ended time.Time
	var pauses []time.Duration
	url := "http://" + silent(t, func() {
		mu.Lock()
		defer mu.Unlock()
		if !ended.IsZero() {
			pauses = append(pauses, time.Since(ended))
		}
	}, func() {
		mu.Lock()
		defer mu.Unlock()
		ended = time.Now()
	})
	r := run(t, Check{URL: url, Timeout: interval, Interval: interval, Within: 8 * interval}, Subject{})
	if r.Healthy || r.Attempts < 2 || r.Attempts > 4 {
		t.Errorf("%+v", r)
	}
	mu.Lock()
	defer mu.Unlock()
	if len(pauses) != r.Attempts-1 || slices.Min(pauses) < interval/4 {
		t.Errorf("pauses %v", pauses)
	}
}

// An attempt without time to see anything does not hide what was seen before.
func TestLastIsWhatWasSeen(t *testing.T) {
	t.Parallel()
	var connections atomic.Int32
	url := "http://" + listen(t, func(conn net.Conn) {
		if connections.Add(1) == 1 {
			request(conn)
			fmt.Fprint(conn, "HTTP/1.1 500 No\r\nContent-Length: 4\r\n\r\nboom")
			return
		}
		untilClosed(conn)
	})
	c := Check{URL: url, Timeout: time.Minute, Interval: time.Millisecond, Within: 500 * time.Millisecond}
	if r := run(t, c, Subject{}); r.Attempts != 2 || r.Last != `status 500, body "boom"` {
		t.Errorf("%+v", r)
	}
}

// Each server answers only when all have been asked.
func TestAllAtOnce(t *testing.T) {
	t.Parallel()
	var asked sync.WaitGroup
	asked.Add(3)
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Done()
		asked.Wait()
		fmt.Fprint(w, r.URL.Path)
	})
	a, b := httptest.NewServer(handler), httptest.NewServer(handler)
	defer a.Close()
	defer b.Close()
	observed := 0
	results := Run(t.Context(), []Check{
		once(Check{Name: "a", URL: a.URL + "/a", Body: "/a"}),
		once(Check{Name: "b", URL: b.URL + "/b", Body: "/x"}),
		once(Check{Name: "c", URL: b.URL + "/c", Body: "/c"}),
	}, Subject{}, func(string, int, string) { observed++ })
	var got []string
	for _, r := range results {
		got = append(got, fmt.Sprint(r.Name, " ", r.Healthy, " ", r.Last))
	}
	want := []string{"a true status 200", `b false status 200, body "/b" does not contain "/x"`, "c true status 200"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if observed != 3 {
		t.Errorf("%d attempts observed", observed)
	}
}

func TestHealthy(t *testing.T) {
	t.Parallel()
	good, bad := Result{Healthy: true}, Result{}
	for _, test := range []struct {
		results []Result
		want    bool
	}{
		{nil, true}, {[]Result{good}, true}, {[]Result{good, good}, true},
		{[]Result{bad}, false}, {[]Result{good, bad}, false}, {[]Result{bad, good}, false},
	} {
		if got := Healthy(test.results); got != test.want {
			t.Errorf("%v: %v", test.results, got)
		}
	}
	if got := Run(t.Context(), nil, Subject{}, nil); len(got) != 0 {
		t.Errorf("%v", got)
	}
}

func TestCancel(t *testing.T) {
	t.Parallel()
	type test struct {
		name     string
		check    func(t *testing.T, cancel func()) Check
		attempts int
		last     string
	}
	for _, test := range []test{
		{"while http is silent", func(t *testing.T, cancel func()) Check {
			return Check{URL: "http://" + silent(t, cancel, nil)}
		}, 1, "context canceled"},
		{"in a tls handshake", func(t *testing.T, cancel func()) Check {
			return Check{URL: "https://" + silent(t, cancel, nil)}
		}, 1, "context canceled"},
		{"in a body", func(t *testing.T, cancel func()) Check {
			return Check{Body: "x", URL: "http://" + listen(t, func(conn net.Conn) {
				request(conn)
				fmt.Fprint(conn, "HTTP/1.1 200 OK\r\n\r\nhello")
				cancel()
				untilClosed(conn)
			})}
		}, 1, ""},
		{"between attempts", func(t *testing.T, cancel func()) Check {
			return Check{URL: sequence(t, 500).URL}
		}, 1, `status 500, body "answer 1"`},
		{"in a command", func(t *testing.T, cancel func()) Check {
			path, released := fifo(t)
			go func() {
				released() // opened and closed again
				cancel()
			}()
			return Check{Command: []string{"/bin/sh", "-c", `: >"$1"; exec /bin/sleep 1000`, "sh", path}}
		}, 1, "context canceled"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			c := test.check(t, cancel)
			c.Timeout, c.Within, c.Interval = time.Hour, time.Hour, time.Minute
			start := time.Now()
			r := Run(ctx, []Check{c}, Subject{}, func(string, int, string) { cancel() })[0]
			if took := time.Since(start); took > 30*time.Second {
				t.Errorf("took %s", took)
			}
			if r.Healthy || r.Attempts != test.attempts || test.last != "" && r.Last != test.last || r.Last == "" {
				t.Errorf("%+v", r)
			}
		})
	}
}

func TestTCP(t *testing.T) {
	t.Parallel()
	closed := make(chan struct{})
	address := listen(t, func(conn net.Conn) {
		untilClosed(conn)
		close(closed)
	})
	if r := run(t, once(Check{TCP: address}), Subject{}); !r.Healthy || r.Attempts != 1 || r.Last != "connected" {
		t.Errorf("%+v", r)
	}
	<-closed
	refused := unused(t)
	want := fmt.Sprintf("dial tcp %s: connect: connection refused", refused)
	if r := run(t, once(Check{TCP: refused}), Subject{}); r.Healthy || r.Last != want {
		t.Errorf("%+v", r)
	}
}

func TestNothingToAsk(t *testing.T) {
	t.Parallel()
	r := run(t, often(Check{Name: "empty"}), Subject{})
	if r.Healthy || r.Attempts != 0 || r.Last != "the check asks nothing: it has no url, tcp or command" {
		t.Errorf("%+v", r)
	}
}

func TestCommand(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := Subject{Env: []string{"PATH=" + os.Getenv("PATH"), "BLUEGREEN_COMMIT=abc"}, Dir: dir}
	for _, test := range []struct {
		name, script string
		healthy      bool
		last         string
		lines        []string
	}{
		{"success", "echo $BLUEGREEN_COMMIT; pwd", true, "exit status 0", []string{"abc", dir}},
		{"failure", `echo one; printf 'two\033[31m\n\n' >&2; exit 3`, false, `exit status 3: "two\x1b[31m"`, []string{"one", "two\x1b[31m", ""}},
		{"failure without words", "exit 1", false, "exit status 1", nil},
		{"signal", "kill -9 $$", false, "signal: killed", nil},
		{"flood", "head -c 33554432 /dev/zero; echo; echo end; exit 1", false, `exit status 1: "end"`, nil},
		{"long line", "head -c 3000 /dev/zero | tr '\\0' x; exit 1", false, `exit status 1: "` + strings.Repeat("x", 200) + `"...`, nil},
		{"background", "sleep 1000 & echo $! >pid", true, "exit status 0", nil},
	} {
		r := run(t, once(Check{Command: []string{"sh", "-c", test.script}}), s)
		if r.Healthy != test.healthy || r.Last != test.last || r.Attempts != 1 {
			t.Errorf("%s: %+v", test.name, r)
		}
		if test.lines != nil && !slices.Equal(r.Lines, test.lines) {
			t.Errorf("%s: lines %q, want %q", test.name, r.Lines, test.lines)
		}
	}
	text, err := os.ReadFile(filepath.Join(dir, "pid"))
	var pid int
	if _, scanErr := fmt.Sscan(string(text), &pid); err != nil || scanErr != nil {
		t.Fatal(err, scanErr)
	}
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		t.Errorf("the background child is dead: %v", err)
	}
	r := run(t, once(Check{Command: []string{"no-such\x1b"}}), s)
	if want := `program "no-such\x1b" is not in the PATH: file does not exist`; r.Last != want {
		t.Errorf("%+v", r)
	}
	// The lines are the last attempt's.
	c := often(Check{Command: []string{"sh", "-c", "echo x >>count; wc -l <count; test $(wc -l <count) -ge 3"}})
	if r := run(t, c, s); !r.Healthy || r.Attempts != 3 || !slices.Equal(r.Lines, []string{"3"}) {
		t.Errorf("%+v", r)
	}
}

func TestCommandTimeout(t *testing.T) {
	t.Parallel()
	path, released := fifo(t)
	dead := make(chan struct{})
	go func() {
		defer close(dead)
		released()
	}()
	c := Check{
		Command: []string{"/bin/sh", "-c", `trap "" TERM; exec 9>"$1"; /bin/sleep 1000 & echo waiting; wait`, "sh", path},
		// More than the timeout, which would be cut, and less than that and the
		// time that is given to end.
		Timeout: time.Second, Within: 2 * time.Second, Interval: time.Millisecond,
	}
	r := run(t, c, Subject{})
	if r.Healthy || r.Attempts != 1 || r.Last != `timed out after 1s: "waiting"` || !slices.Equal(r.Lines, []string{"waiting"}) {
		t.Errorf("%+v", r)
	}
	if r.Took > 8*time.Second {
		t.Errorf("took %s", r.Took)
	}
	select {
	case <-dead:
	case <-time.After(3 * time.Second):
		t.Error("a grandchild lives")
	}
}

// fifo makes a named pipe and returns its path and a function that waits until
// a writer has opened it and none holds it any more.
func fifo(t *testing.T) (path string, released func()) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	return path, func() {
		f, err := os.Open(path) // waits for a writer
		if err != nil {
			t.Error(err)
			return
		}
		defer f.Close()
		f.Read(make([]byte, 1))
	}
}

func TestBodyFile(t *testing.T) {
	t.Parallel()
	big := bytes.Repeat([]byte("0123456789"), 10_000)
	other := slices.Clone(big)
	other[maxBody-1] = 'x'
	files := map[string][]byte{"index.html": []byte("<h1>App</h1>\n"), "empty": {}, "big": big, "edge": big[:maxBody]}
	s := Subject{File: func(ctx context.Context, path string, limit int) ([]byte, int64, error) {
		if content, found := files[path]; found {
			return content[:min(len(content), limit)], int64(len(content)), nil
		}
		return nil, 0, errors.New("no such file\x1b")
	}}
	for _, test := range []struct {
		name, file string
		body       []byte
		chunked    bool
		wrong      string // "" is healthy
	}{
		{"equal", "index.html", files["index.html"], false, ""},
		{"equal, of no known length", "index.html", files["index.html"], true, ""},
		{"another", "index.html", []byte("<h1>Bpp</h1>\n"), false,
			`body "<h1>Bpp</h1>\n" differs from "index.html" as committed, first at byte 5`},
		{"a beginning", "index.html", []byte("<h1>App"), false,
			`body "<h1>App" is not as long as "index.html" as committed, 13 bytes`},
		{"more", "index.html", []byte("<h1>App</h1>\n\n"), false,
			`body "<h1>App</h1>\n\n" is not as long as "index.html" as committed, 13 bytes`},
		{"more, of no known length", "index.html", []byte("<h1>App</h1>\n\n"), true,
			`body "<h1>App</h1>\n\n" is not as long as "index.html" as committed, 13 bytes`},
		{"nothing", "index.html", nil, false, `body "" is not as long as "index.html" as committed, 13 bytes`},
		{"empty", "empty", nil, false, ""},
		{"not empty", "empty", []byte("x"), false, `body "x" is not as long as "empty" as committed, 0 bytes`},
		{"big", "big", big, false, ""},
		{"big, of no known length", "big", big, true, ""},
		{"big, other within 64 KiB", "big", other, false, "first at byte 65536"},
		{"big, another length", "big", append(slices.Clone(big), 'x'), false, `is not as long as "big" as committed, 100000 bytes`},
		{"big, a beginning", "big", big[:maxBody-1], true, `is not as long as "big" as committed, 100000 bytes`},
		{"64 KiB", "edge", files["edge"], false, ""},
		{"64 KiB and more", "edge", big, false, `is not as long as "edge" as committed, 65536 bytes`},
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !test.chunked {
				w.Header().Set("Content-Length", fmt.Sprint(len(test.body)))
			}
			w.WriteHeader(200)
			w.(http.Flusher).Flush()
			w.Write(test.body)
		}))
		r := run(t, once(Check{URL: server.URL, BodyFile: test.file}), s)
		server.Close()
		if r.Healthy != (test.wrong == "") || !strings.HasSuffix(r.Last, test.wrong) {
			t.Errorf("%s: %+v", test.name, r)
		}
	}
	r := run(t, often(Check{URL: "http://127.0.0.1/", BodyFile: "none"}), s)
	if r.Healthy || r.Attempts != 0 || r.Last != `reading "none" as committed: no such file\x1b` {
		t.Errorf("%+v", r)
	}
}

func TestText(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"":                             ``,
		"plain \"quoted\" 5% a\\b":     `plain "quoted" 5% a\b`,
		"\x00\x1b[31m\n\r\t\x7f":       `\x00\x1b[31m\n\r\t\x7f`,
		"é\u009b\u202e\xff\ufffd":      `é\u009b\u202e\xff` + "\ufffd",
		strings.Repeat("é", 300):       strings.Repeat("é", 250) + "...",
		"x" + strings.Repeat("é", 300): "x" + strings.Repeat("é", 249) + "...",
		strings.Repeat("\x80", 501):    strings.Repeat(`\x80`, 500) + "...",
	} {
		if got := printable(in); got != want {
			t.Errorf("printable(%.40q) = %s, want %s", in, got, want)
		}
	}
	for in, want := range map[string]string{
		"":                             `""`,
		"a\n\"b\"":                     `"a\n\"b\""`,
		strings.Repeat("x", 200):       `"` + strings.Repeat("x", 200) + `"`,
		strings.Repeat("x", 201):       `"` + strings.Repeat("x", 200) + `"...`,
		"x" + strings.Repeat("é", 300): `"x` + strings.Repeat("é", 99) + `"...`,
	} {
		if got := excerpt([]byte(in)); got != want {
			t.Errorf("excerpt(%.40q) = %s, want %s", in, got, want)
		}
	}
}
