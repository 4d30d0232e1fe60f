package console

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unicode"
	"unicode/utf8"
)

// paper is a writer that notes each write.
type paper struct {
	mu     sync.Mutex
	writes []string
}

func (p *paper) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.writes = append(p.writes, string(b))
	return len(b), nil
}

func (p *paper) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.writes, "")
}

func TestLines(t *testing.T) {
	t.Parallel()
	var p paper
	c := New(&p)
	c.Say("running %q", "sync")
	c.Warning("disk is %d%% full", 90)
	c.Hint("look\nthere")
	c.Error("%s", "\x1b[31mno")
	c.Success("done")
	c.Close(time.Minute)
	c.Say("nobody hears this")
	c.Progress("nor this")
	c.Close(time.Minute)
	want := "running \"sync\"\nwarning: disk is 90% full\nhint: look\\nthere\nerror: \\x1b[31mno\nsuccess: done\n"
	if got := p.String(); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if len(p.writes) != 5 {
		t.Errorf("5 lines took %d writes: git's own lines may cut into them", len(p.writes))
	}
}

// TestFlush: what was said before a flush is written when it returns, and a
// reader who does not read is waited for no longer than that.
func TestFlush(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		reader, w := io.Pipe()
		c := New(w)
		began := time.Now()
		c.Say("nobody reads this")
		c.Flush(time.Minute)
		if waited := time.Since(began); waited != time.Minute {
			t.Errorf("waited %s", waited)
		}
		read := ""
		go func() {
			all, _ := io.ReadAll(reader)
			read = string(all)
		}()
		c.Say("now somebody does")
		c.Flush(time.Minute)
		c.Close(time.Minute)
		c.Flush(time.Minute) // after the end, too
		if waited := time.Since(began); waited != time.Minute {
			t.Errorf("waited %s for a reader who reads", waited)
		}
		w.Close()
		synctest.Wait()
		if want := "nobody reads this\nnow somebody does\n"; read != want {
			t.Errorf("read %q, want %q", read, want)
		}
	})
	var p paper
	c := New(&p)
	c.Say("written")
	c.Flush(time.Minute)
	if got := p.String(); got != "written\n" {
		t.Errorf("after a flush %q is written", got)
	}
	c.Close(time.Minute)
}

// TestPace holds progress lines to their pace.
func TestPace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var p paper
		c := New(&p)
		start := time.Now()
		for range 1000 { // ten seconds
			c.Progress("at %s", time.Since(start).Round(time.Second))
			<-time.After(10 * time.Millisecond)
			synctest.Wait()
		}
		n := len(p.writes)
		if n == 0 || !strings.HasPrefix(p.writes[0], "at 1s") && !strings.HasPrefix(p.writes[0], "at 0s") {
			t.Fatalf("wrote %q", p.writes)
		}
		if n < 20 || n > 40 {
			t.Errorf("%d progress lines in ten seconds", n)
		}
		for _, w := range p.writes {
			if !strings.HasSuffix(w, "\r") || strings.Contains(w, "\n") {
				t.Errorf("progress is %q", w)
			}
		}
		c.Close(time.Minute)
	})
}

// TestShortWork shows no progress: work of less than half a second is too
// short for it.
func TestShortWork(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var p paper
		c := New(&p)
		for range 49 {
			c.Progress("writing")
			<-time.After(10 * time.Millisecond)
		}
		c.Success("done")
		c.Close(time.Minute)
		if got := p.String(); got != "success: done\n" {
			t.Errorf("wrote %q", got)
		}
	})
}

// TestCover has a progress line cover what a longer one left on the screen, and
// others begin lines of their own.
func TestCover(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var p paper
		c := New(&p)
		<-time.After(time.Second)
		c.Progress("a rather long line of progress")
		synctest.Wait()
		<-time.After(time.Second)
		c.Progress("short")
		synctest.Wait()
		c.Say("end")
		c.Say("more")
		c.Close(time.Minute)
		if got := screen(p.String()); got != "short\nend\nmore\n" {
			t.Errorf("the screen shows %q after %q", got, p.String())
		}
	})
}

// TestFlushedProgress covers a progress line before somebody else writes, cuts one that would
// wrap, and leaves all of them out where it is asked to.
func TestFlushedProgress(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var p paper
		c := New(&p)
		<-time.After(time.Second)
		c.Progress("%s", strings.Repeat("ä", 100))
		c.Flush(time.Minute)
		if got, want := p.String(), strings.Repeat("ä", 67)+"...\r"+strings.Repeat(" ", 137)+"\r"; got != want {
			t.Errorf("wrote %q, want %q", got, want)
		}
		c.Still()
		<-time.After(time.Second)
		c.Progress("more")
		c.Say("end")
		c.Close(time.Minute)
		if got := p.String(); !strings.HasSuffix(got, "\rend\n") || strings.Contains(got, "more") {
			t.Errorf("wrote %q", got)
		}
	})
}

// screen is what a terminal shows of text, without spaces at the ends of lines.
func screen(text string) string {
	var out strings.Builder
	var line []rune
	at := 0
	for _, r := range text {
		switch r {
		case '\r':
			at = 0
		case '\n':
			fmt.Fprintf(&out, "%s\n", strings.TrimRight(string(line), " "))
			line, at = nil, 0
		default:
			if at == len(line) {
				line = append(line, r)
			} else {
				line[at] = r
			}
			at++
		}
	}
	return out.String() + string(line)
}

// TestNobodyReads writes to a reader who never reads: every call returns at
// once, and Close when its time is over.
func TestNobodyReads(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, w := io.Pipe()
		c := New(w)
		start := time.Now()
		for i := range 100_000 {
			c.Say("line %d", i)
			c.Progress("progress %d", i)
		}
		if took := time.Since(start); took != 0 {
			t.Errorf("the lines took %s", took)
		}
		c.Close(5 * time.Second)
		if took := time.Since(start); took != 5*time.Second {
			t.Errorf("Close took %s", took)
		}
		r.Close() // ends the writer
	})
}

// TestOverflow fills the queue: the newest lines survive, the last one in
// full, and what was left out is counted.
func TestOverflow(t *testing.T) {
	t.Parallel()
	const lines = 100_000
	r, w := io.Pipe()
	c := New(w)
	for i := range lines {
		c.Say("line %d", i)
	}
	c.Error("the outcome")
	var got bytes.Buffer
	read := make(chan struct{})
	go func() {
		defer close(read)
		io.Copy(&got, r)
	}()
	c.Close(time.Minute)
	w.Close()
	<-read
	text := strings.Split(strings.TrimSuffix(got.String(), "\n"), "\n")
	if last := text[len(text)-1]; last != "error: the outcome" {
		t.Errorf("the last line is %q", last)
	}
	if last := text[len(text)-2]; last != fmt.Sprintf("line %d", lines-1) {
		t.Errorf("the last line but one is %q", last)
	}
	var dropped, warnings, size int
	for _, line := range text {
		var more int
		if n, _ := fmt.Sscanf(line, "warning: %d lines were left out: nobody read them", &more); n == 1 {
			dropped += more
			warnings++
			size += len(line) + 1
		}
	}
	// What was taken before anybody read may have been too much, too.
	if warnings < 1 || warnings > 2 || dropped+len(text)-warnings != lines+1 {
		t.Errorf("%d lines came, %d times %d were left out, of %d", len(text), warnings, dropped, lines+1)
	}
	if got.Len()-size > 2*maxQueue {
		t.Errorf("%d bytes were kept", got.Len())
	}
}

// TestLongLine keeps a last line that is longer than the whole queue.
func TestLongLine(t *testing.T) {
	t.Parallel()
	var p paper
	c := New(&p)
	long := strings.Repeat("x", 2*maxQueue)
	c.Error("%s", long)
	c.Close(time.Minute)
	if p.String() != "error: "+long+"\n" {
		t.Errorf("%d bytes came of %d", len(p.String()), len(long))
	}
}

// broken fails every write.
type broken struct{ writes int }

func (b *broken) Write([]byte) (int, error) {
	b.writes++
	return 0, errors.New("broken pipe")
}

// TestWriteError stops writing after an error, and nobody waits.
func TestWriteError(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := &broken{}
		c := New(b)
		start := time.Now()
		for i := range 100 {
			c.Say("line %d", i)
			synctest.Wait()
		}
		c.Close(time.Minute)
		if took := time.Since(start); took != 0 {
			t.Errorf("it took %s", took)
		}
		if b.writes != 1 {
			t.Errorf("%d writes after the error", b.writes-1)
		}
	})
}

// TestManyVoices has several goroutines write: no line is torn.
func TestManyVoices(t *testing.T) {
	t.Parallel()
	var p paper
	c := New(&p)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 100 {
				c.Say("voice %d says one thing", i)
				c.Progress("voice %d", i)
			}
		})
	}
	wg.Wait()
	c.Close(time.Minute)
	whole := regexp.MustCompile(`^(voice \d *\r)*voice \d says one thing *\n$`)
	if n := strings.Count(p.String(), "\n"); n != 800 {
		t.Errorf("%d lines, want 800", n)
	}
	for line := range strings.Lines(p.String()) {
		if !whole.MatchString(line) {
			t.Errorf("torn: %q", line)
		}
	}
}

var escapes = []struct{ in, want string }{
	{"", ""},
	{"plain ASCII ~", "plain ASCII ~"},
	{"Grüße, 日本", "Grüße, 日本"},
	{`back\slash`, `back\slash`},
	{"line\nline", `line\nline`},
	{"tab\tcr\r", `tab\tcr\r`},
	{"nul\x00", `nul\x00`},
	{"bell\x07 del\x7f", `bell\x07 del\x7f`},
	{"\x1b]0;title\x07", `\x1b]0;title\x07`},
	{"\u009b31m", `\u009b31m`},             // C1: what some terminals take for ESC [
	{"\x9b31m", `\x9b31m`},                 // the same byte, not UTF-8
	{"\xff\xfe", `\xff\xfe`},               // not UTF-8
	{"cut \xe2\x80", `cut \xe2\x80`},       // half a character
	{"\xed\xa0\x80", `\xed\xa0\x80`},       // a surrogate
	{"\xc0\xaf", `\xc0\xaf`},               // an overlong slash
	{"\u202egpj.exe", `\u202egpj.exe`},     // right to left
	{"a\u2066b\u2069c", `a\u2066b\u2069c`}, // isolates
	{"zero\u200bwidth", `zero\u200bwidth`},
	{"\ufeffmark", `\ufeffmark`},
	{"no\u00a0break", `no\u00a0break`},
	{"line\u2028sep", `line\u2028sep`},
	{"tag\U000e0041", `tag\U000e0041`},
	{"private \ue000", `private \ue000`},
	{"\ufffd is a character", "\ufffd is a character"},
}

func TestEscape(t *testing.T) {
	t.Parallel()
	for _, c := range escapes {
		if got := Escape(c.in); got != c.want {
			t.Errorf("Escape(%q) = %q, want %q", c.in, got, c.want)
		}
	}
}

// FuzzEscapeJSON: of what is said in JSON nothing acts on a terminal, and it says
// the same.
func FuzzEscapeJSON(f *testing.F) {
	for _, c := range escapes {
		f.Add(c.in)
	}
	f.Add("del\x7f \u0085 \U000e0041 <&>\"\\")
	f.Fuzz(func(t *testing.T, in string) {
		text, err := json.MarshalIndent(map[string][]string{in: {in}}, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		out := EscapeJSON(text)
		for _, r := range string(out) {
			if r != '\n' && !unicode.IsPrint(r) {
				t.Errorf("EscapeJSON(%q) = %q has %q", text, out, r)
			}
		}
		var want, got map[string][]string
		if err := errors.Join(json.Unmarshal(text, &want), json.Unmarshal(out, &got)); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("EscapeJSON(%q) = %q says %q, %v", text, out, got, err)
		}
	})
}

func FuzzEscape(f *testing.F) {
	for _, c := range escapes {
		f.Add(c.in)
	}
	f.Fuzz(func(t *testing.T, in string) {
		out := Escape(in)
		if !utf8.ValidString(out) {
			t.Errorf("Escape(%q) = %q is not UTF-8", in, out)
		}
		for _, r := range out {
			if !unicode.IsPrint(r) {
				t.Errorf("Escape(%q) = %q has %q", in, out, r)
			}
		}
		if again := Escape(out); again != out {
			t.Errorf("Escape(%q) = %q is escaped once more to %q", in, out, again)
		}
	})
}
