package main

import (
	"context"
	"os"
	"slices"
	"strings"
	"testing"
)

// newTestSite serves a page that is given.
func newTestSite(t *testing.T, text string) *site {
	t.Helper()
	dir := t.TempDir()
	write(t, dir, text)
	s, err := newSite("blue", dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.close)
	return s
}

// write replaces a page at once, as a deployment does.
func write(t *testing.T, dir, text string) {
	t.Helper()
	err := os.WriteFile(dir+"/new", []byte(text+"\n"), 0o644)
	if err == nil {
		err = os.Rename(dir+"/new", dir+"/index.html")
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestSite(t *testing.T) {
	t.Parallel()
	s := newTestSite(t, "App v1")
	v := newVisitor("production", s.address, production)
	for text, want := range map[string]string{
		"App v1 on {{.Environment}}": "App v1 on blue",
		"{{.Host}}":                  production,
		"{{.Environment":             "status 500",
		"before {{.Visitor}}":        "status 500",
	} {
		write(t, s.dir, text)
		if got := v.get(); got != (answer{want, "blue"}) {
			t.Errorf("%q is served as %q", text, got)
		}
	}
	v.url += "../index.html"
	if got := v.get(); got.text == production {
		t.Errorf("%s gives %q", v.url, got)
	}
	v.url = strings.TrimSuffix(v.url, "../index.html") + "absent"
	if got := v.get().text; got != "status 404" {
		t.Errorf("%s gives %q", v.url, got)
	}
}

// TestVisitor lets a visitor see what is expected, what is not, and nothing.
func TestVisitor(t *testing.T) {
	t.Parallel()
	s := newTestSite(t, "App v1")
	v := newVisitor("blue", s.address, "")
	v.expect("App v1", "App v2")
	v.start()
	defer v.end()
	look := func() {
		if err := v.look(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	look()
	write(t, s.dir, "App v2")
	look()
	v.expect("App v1")
	look()
	s.close()
	look()
	v.end()
	got := v.tally()
	if got.asked < 4*glimpses-3 || got.failed == 0 || got.wrong <= got.failed || got.wrong >= got.asked {
		t.Errorf("the tally is %+v", got)
	}
	var labels []string
	times := 0
	for _, s := range v.spans {
		times += s.times
		if labels = append(labels, s.label()); s.until.Before(s.since) {
			t.Errorf("%v ends before it begins", s)
		}
	}
	if times != got.asked || !slices.Equal(slices.Compact(labels), []string{"v1", "v2", "none"}) {
		t.Errorf("the visitor saw %q in %d requests", labels, times)
	}
}

// TestReport fails a demo whose visitors saw what they should not.
func TestReport(t *testing.T) {
	t.Parallel()
	good := span{answer: answer{"App v1", "green"}, since: began, until: began, times: 5}
	for name, c := range map[string]struct {
		visitor *visitor
		want    string
	}{
		"good":       {&visitor{spans: []span{good}}, ""},
		"nobody":     {&visitor{}, "nobody asked production"},
		"wrong":      {&visitor{spans: []span{good}, wrong: []string{"App v7"}}, `5 requests, 0 failed, 1 answered with what should not be there. Such as ["production: App v7"]`},
		"unanswered": {&visitor{spans: []span{good}, wrong: []string{noAnswer + "EOF"}}, `"production: no answer: EOF"`},
	} {
		var out strings.Builder
		c.visitor.name = "production"
		d := &demo{out: &out, visitors: []*visitor{c.visitor}}
		report(context.Background(), d)
		if c.want == "" && d.err != nil || c.want != "" && (d.err == nil || !strings.Contains(d.err.Error(), c.want)) {
			t.Errorf("%s: %v", name, d.err)
		}
		if c.want != "nobody asked production" && !strings.Contains(out.String(), "\nproduction  1") {
			t.Errorf("%s: no timeline:\n%s", name, out.String())
		}
	}
}
