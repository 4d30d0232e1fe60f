package main

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"io"
	"strings"
)

// The measures of the picture, in user units.
const (
	svgWidth  = 960
	svgLeft   = 110 // the names of the rows
	svgRight  = 24
	svgTop    = 56 // the heading
	markSize  = 22
	rowHeight = 34
	rowGap    = 12
	lineGap   = 21
	// wide is how wide a span must be to have its label inside.
	wide = 20
)

// svgStyle has the colours for both schemes. Nothing is told by colour alone.
const svgStyle = `
text { font: 14px system-ui, sans-serif; fill: #1b1f24; }
.head { font-size: 18px; font-weight: 600; }
.small { font-size: 12px; fill: #57606a; }
.centre { text-anchor: middle; }
.paper { fill: #ffffff; }
.guide { stroke: #c4ccd4; stroke-width: 1; }
.span { stroke: #ffffff; stroke-width: 1; }
.blue { fill: #bcd7fb; }
.green { fill: #bfe5c3; }
.none { fill: #e3e6ea; }
.bad { fill: #ffc9c4; stroke: #a40e26; }
.mark { fill: #1b1f24; }
.refused { fill: #a40e26; }
.number { font-size: 12px; font-weight: 600; fill: #ffffff; }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3; }
  .small { fill: #9aa5b1; }
  .paper { fill: #0f141a; }
  .guide { stroke: #3a444f; }
  .span { stroke: #0f141a; }
  .blue { fill: #1d4a86; }
  .green { fill: #1f5c2e; }
  .none { fill: #39424d; }
  .bad { fill: #7d1a1a; stroke: #ff9a94; }
  .mark { fill: #e6edf3; }
  .refused { fill: #ffa8a2; }
  .number { fill: #0f141a; }
}
`

// writeSVG draws the timeline as a picture that stands alone: nothing is
// loaded, nothing runs, and its text is text.
func (t timeline) writeSVG(w io.Writer) error {
	p := &picture{scale: t.scale(svgWidth - svgLeft - svgRight)}
	p.y = svgTop
	p.marks(t.events, len(t.rows))
	for _, r := range t.rows {
		p.row(r)
	}
	p.axis()
	p.legend(t)
	var out bytes.Buffer
	fmt.Fprintf(&out, `<svg xmlns="http://www.w3.org/2000/svg" width="%[1]d" height="%.0[2]f" viewBox="0 0 %[1]d %.0[2]f" role="img" aria-labelledby="title desc">`+"\n", svgWidth, p.y)
	fmt.Fprintf(&out, "<title id=\"title\">%s</title>\n<desc id=\"desc\">%s</desc>\n<style>%s</style>\n", heading, escape(t.describe()), svgStyle)
	fmt.Fprintf(&out, `<rect class="paper" width="%d" height="%.0f"/>`+"\n", svgWidth, p.y)
	fmt.Fprintf(&out, `<text class="head" x="20" y="32">%s</text>`+"\n", heading)
	p.body.WriteTo(&out)
	out.WriteString("</svg>\n")
	_, err := out.WriteTo(w)
	return err
}

const heading = "What visitors saw during a blue-green deployment"

// A picture is drawn from top to bottom.
type picture struct {
	scale
	y    float64 // of what comes next
	body bytes.Buffer
}

func (p *picture) draw(format string, args ...any) { fmt.Fprintf(&p.body, format+"\n", args...) }

func (p *picture) text(class string, x, y float64, text string) {
	p.draw(`<text class="%s" x="%.1f" y="%.1f">%s</text>`, class, x, y, escape(text))
}

// marks draws a numbered mark for each event, and a line from it through all
// rows.
func (p *picture) marks(events []event, rows int) {
	var places, sizes []float64
	for _, e := range events {
		places, sizes = append(places, svgLeft+p.x(e.at)), append(sizes, markSize+2)
	}
	levels, highest := stack(places, sizes), 0
	for _, level := range levels {
		highest = max(highest, level)
	}
	bottom := p.y + float64(highest+1)*(markSize+2)
	end := bottom + float64(rows)*(rowHeight+rowGap)
	for i := range events {
		y := bottom - float64(levels[i]+1)*(markSize+2) + markSize/2
		p.draw(`<line class="guide" x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f"/>`, places[i], y, places[i], end)
	}
	for i, e := range events {
		y := bottom - float64(levels[i]+1)*(markSize+2) + markSize/2
		class, corner := "mark", markSize/2
		if e.refused {
			class, corner = "refused", 3
		}
		p.draw(`<rect class="%s" x="%.1f" y="%.1f" width="%d" height="%d" rx="%d"><title>%s</title></rect>`,
			class, places[i]-markSize/2, y-markSize/2, markSize, markSize, corner, escape(e.text))
		p.text("number centre", places[i], y+4, fmt.Sprint(i+1))
	}
	p.y = bottom + rowGap/2
}

func (p *picture) row(r row) {
	p.text("", 20, p.y+rowHeight/2+5, r.name)
	for i, s := range r.spans {
		x, end := svgLeft+p.x(s.since), svgLeft+p.x(r.ends(i))
		width := max(end-x, 1.5)
		class := s.from
		if class != "blue" && class != "green" {
			class = "none"
		}
		if s.kind() != page {
			class = "bad"
		}
		p.draw(`<rect class="span %s" x="%.1f" y="%.1f" width="%.1f" height="%d"><title>%s</title></rect>`,
			class, x, p.y, width, rowHeight, escape(p.tell(r, i)))
		if width >= wide {
			p.text("centre", x+width/2, p.y+rowHeight/2+5, s.label())
		}
	}
	p.y += rowHeight + rowGap
}

func (p *picture) axis() {
	for _, tick := range p.ticks() {
		p.text("small centre", svgLeft+p.x(tick), p.y+6, fmt.Sprintf("%.0f s", tick.Sub(p.from).Seconds()))
	}
	p.y += 2 * lineGap
}

// legend explains the colours and lists the events.
func (p *picture) legend(t timeline) {
	x := 20.0
	for _, item := range []struct{ class, text string }{
		{"blue", "answered by blue"}, {"green", "answered by green"}, {"bad", "an error, or no answer"}, {"refused", "refused, or taken back"},
	} {
		p.draw(`<rect class="%s" x="%.1f" y="%.1f" width="16" height="16"/>`, item.class, x, p.y-13)
		p.text("", x+24, p.y, item.text)
		x += 205
	}
	p.y += lineGap + 6
	for i, e := range t.events {
		p.text("small", 20, p.y, p.seconds(e.at))
		p.text("", 72, p.y, fmt.Sprint(i+1))
		p.text("", 100, p.y, e.text)
		p.y += lineGap
	}
	p.y += 6
	p.text("", 20, p.y, t.total)
	p.y += 20
}

// tell is a span in words: "App v1 from green, 0.2 s to 3.2 s".
func (s scale) tell(r row, i int) string {
	what := r.spans[i].text
	if from := r.spans[i].from; from != "" && !strings.HasSuffix(what, " on "+from) {
		what += " from " + from
	}
	return fmt.Sprintf("%s, %s to %s", what, s.seconds(r.spans[i].since), s.seconds(r.ends(i)))
}

// describe is the picture in words.
func (t timeline) describe() string {
	s := t.scale(1)
	var text strings.Builder
	fmt.Fprintf(&text, "A timeline of %.0f seconds. ", s.total.Seconds())
	for _, r := range t.rows {
		var parts []string
		for i := range r.spans {
			parts = append(parts, s.tell(r, i))
		}
		fmt.Fprintf(&text, "The answers of %s: %s. ", r.name, strings.Join(parts, "; "))
	}
	return text.String() + t.total
}

// escape makes any text fit for XML.
func escape(text string) string {
	var b strings.Builder
	xml.EscapeText(&b, []byte(text)) // a Builder takes everything
	return b.String()
}
