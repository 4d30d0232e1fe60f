package main

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// began is when the timelines of the tests begin.
var began = time.Date(2015, 10, 20, 12, 0, 0, 0, time.UTC)

func after(seconds float64) time.Time {
	return began.Add(time.Duration(seconds * float64(time.Second)))
}

func seen(text, from string, since, until float64) span {
	return span{answer{text, from}, after(since), after(until), 10}
}

// sample has short failures, events that crowd, and texts that are markup.
func sample() timeline {
	t := timeline{total: "60 requests, 1 failed."}
	t.rows = []row{
		{"production", []span{
			seen("App v1", "green", 1, 7.9), seen("App v2", "blue", 8, 11.9), seen(noAnswer+"refused", "", 12, 12),
			seen("App v2", "blue", 12.01, 14.9), seen("App v13 on green", "green", 15, 20),
		}},
		{"blue", []span{
			seen("App v1", "blue", 0, 3), seen("status 500", "blue", 3.01, 3.02), seen("App v2", "blue", 3.03, 15), seen("It works!", "", 15.1, 20),
		}},
	}
	for i, at := range []float64{0, 0.05, 0.1, 3, 3, 7.5, 14, 14.1, 14.2, 14.3, 15, 19.9, 20} {
		t.events = append(t.events, event{after(at), fmt.Sprintf("event %d <b> & \"x\" \x1b]", i), i%3 == 2})
	}
	return t
}

func TestAnswers(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"App v1": "1 v1", "App v3 on green": "3 v3", "App v12": "2 v12", "status 500": "! 500",
		noAnswer + "EOF": "X none", "": "? ?", "App v": "? ?", "<h1>App v1": "? ?", "App v1a": "? ?",
	} {
		a := answer{text: text}
		if got := fmt.Sprintf("%c %s", a.glyph(), a.label()); got != want {
			t.Errorf("%q is drawn as %q, and not as %q", text, got, want)
		}
	}
}

func TestText(t *testing.T) {
	t.Parallel()
	sample := sample()
	for i := range sample.events {
		sample.events[i].text = fmt.Sprintf("event %d", i+1)
	}
	var out bytes.Buffer
	if err := sample.write(&out); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(out.String(), "\n")
	for _, line := range lines {
		if len(line) > textWidth || strings.TrimRight(line, " ") != line {
			t.Errorf("not up to %d columns: %q", textWidth, line)
		}
	}
	for name, want := range map[string]string{
		"production": `^1+2+X2+3+$`, // what failed for an instant is seen
		"blue":       `^1+!+2+\?+$`,
		"  from":     `^g+b+-b+g+$`,
	} {
		row := rowOf(lines, name)
		if !regexp.MustCompile(want).MatchString(strings.TrimSpace(row)) {
			t.Errorf("%s is drawn as %q", name, row)
		}
	}
	// Visitors came to production a second later, a twentieth of the width.
	if row := rowOf(lines, "production"); len(row)-len(strings.TrimLeft(row, " ")) != 3 {
		t.Errorf("production begins in another column: %q", row)
	}
	marks := lines[:slices.IndexFunc(lines, func(line string) bool { return strings.HasPrefix(line, "production") })]
	s := sample.scale(textWidth - textNames)
	for i, e := range sample.events {
		number := strconv.Itoa(i + 1)
		column := textNames + min(s.column(e.at), int(s.width)-len(number))
		found := 0
		for _, line := range marks {
			for _, at := range regexp.MustCompile(`\b`+number+`\b`).FindAllStringIndex(line, -1) {
				if at[0] == column {
					found++
				}
			}
		}
		if found != 1 {
			t.Errorf("event %s is marked %d times in column %d of\n%s", number, found, column, strings.Join(marks, "\n"))
		}
		if want := fmt.Sprintf("\n%3s %7s  event %s\n", number, s.seconds(e.at), number); !strings.Contains(out.String(), want) {
			t.Errorf("no line is %q", want)
		}
	}
}

// rowOf returns the columns of the row with a name.
func rowOf(lines []string, name string) string {
	for _, line := range lines {
		if strings.HasPrefix(line, name+" ") {
			return line[textNames:]
		}
	}
	return ""
}

func TestStack(t *testing.T) {
	t.Parallel()
	places := []float64{0, 0, 1, 2, 2, 2, 9, 10, 30}
	sizes := []float64{2, 2, 2, 2, 3, 3, 3, 3, 3}
	levels := stack(places, sizes)
	for i := range places {
		for j := range i {
			if levels[i] == levels[j] && places[j]+sizes[j] > places[i] {
				t.Errorf("marks at %v and %v are both on level %d", places[j], places[i], levels[i])
			}
		}
	}
	if levels[len(levels)-1] != 0 {
		t.Errorf("a mark with room beside it is on level %d", levels[len(levels)-1])
	}
}

func TestSVG(t *testing.T) {
	t.Parallel()
	sample := sample()
	var out bytes.Buffer
	if err := sample.writeSVG(&out); err != nil {
		t.Fatal(err)
	}
	texts := checkSVG(t, out.Bytes())
	for i, e := range sample.events {
		clean := strings.ReplaceAll(e.text, "\x1b", "\ufffd")
		if !strings.Contains(texts["text"], "\n"+clean+"\n") || !strings.Contains(texts["text"], fmt.Sprintf("\n%d\n", i+1)) {
			t.Errorf("event %d, %q, is not in the picture", i+1, clean)
		}
	}
	for _, label := range []string{"v1", "v2", "v13", "production", "blue", sample.total} {
		if !strings.Contains(texts["text"], "\n"+label+"\n") {
			t.Errorf("%q is not in the picture", label)
		}
	}
	for _, told := range []string{"production: App v1 from green, 1.0 s to 8.0 s; ", "App v13 on green, 15.0 s to 20.0 s", "status 500", sample.total} {
		if !strings.Contains(texts["desc"], told) {
			t.Errorf("the description does not say %q: %s", told, texts["desc"])
		}
	}
}

// checkSVG wants a picture that is well-formed, stands alone, has a title and a
// description, and keeps within its bounds. It returns the text in each kind of
// element, a line for each.
func checkSVG(t *testing.T, svg []byte) (texts map[string]string) {
	t.Helper()
	texts = map[string]string{}
	allowed := " svg title desc style rect text line "
	var open []string
	var width, height float64
	d := xml.NewDecoder(bytes.NewReader(svg))
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("not well-formed: %v", err)
		}
		switch token := token.(type) {
		case xml.StartElement:
			name := token.Name.Local
			open, texts[name] = append(open, name), texts[name]+"\n"
			if !strings.Contains(allowed, " "+name+" ") || token.Name.Space != "http://www.w3.org/2000/svg" {
				t.Errorf("there is an element %q", token.Name)
			}
			at := numbers(token)
			if name == "svg" {
				width, height = at["width"], at["height"]
			}
			for _, attr := range token.Attr {
				if strings.HasPrefix(attr.Name.Local, "on") || strings.Contains(attr.Name.Local, "href") {
					t.Errorf("%s has an attribute %q", name, attr.Name.Local)
				}
			}
			if at["x"]+at["width"] > width || at["y"]+at["height"] > height || at["x"] < 0 || at["y"] < 0 || at["width"] < 0 {
				t.Errorf("%v is out of bounds, which are %v by %v", token, width, height)
			}
		case xml.EndElement:
			texts[token.Name.Local] += "\n"
			open = open[:len(open)-1]
		case xml.CharData:
			if len(open) > 0 {
				texts[open[len(open)-1]] += string(token)
			}
		case xml.ProcInst, xml.Directive:
			t.Errorf("there is a %T", token)
		}
	}
	if width == 0 || strings.TrimSpace(texts["title"]) == "" || strings.TrimSpace(texts["desc"]) == "" {
		t.Error("width, title or description is missing")
	}
	if style := texts["style"]; strings.Contains(style, "url(") || strings.Contains(style, "@import") || !strings.Contains(style, "prefers-color-scheme: dark") {
		t.Errorf("the style is %s", style)
	}
	return texts
}

// numbers are the attributes that are numbers.
func numbers(e xml.StartElement) map[string]float64 {
	at := map[string]float64{}
	for _, attr := range e.Attr {
		if n, err := strconv.ParseFloat(attr.Value, 64); err == nil {
			at[attr.Name.Local] = n
		}
	}
	return at
}

func TestShortAndLong(t *testing.T) {
	t.Parallel()
	for name, timeline := range map[string]timeline{
		"empty":       {},
		"one instant": {rows: []row{{"production", []span{seen("App v1", "green", 0, 0)}}}, events: []event{{began, "all at once", false}}},
		"an hour":     {rows: []row{{"production", []span{seen("App v1", "green", 0, 3600)}}}},
	} {
		var text, svg bytes.Buffer
		if err := errors.Join(timeline.write(&text), timeline.writeSVG(&svg)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		checkSVG(t, svg.Bytes())
		if ticks := timeline.scale(100).ticks(); len(ticks) < 1 || len(ticks) > 13 {
			t.Errorf("%s: %d ticks", name, len(ticks))
		}
	}
}
