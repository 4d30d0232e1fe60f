package main

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"strings"
)

// The measures of the chart, in user units.
const (
	chartWidth = 900
	chartLeft  = 270 // the names of the contestants
	chartRight = 190 // the numbers
	barHeight  = 18
	barGap     = 6
	groupGap   = 22
	lineHeight = 22
)

// chartStyle has the colours for both schemes. Ours are told from the others
// by their names, too.
const chartStyle = `
text { font: 14px system-ui, sans-serif; fill: #1b1f24; }
.head { font-size: 18px; font-weight: 600; }
.group { font-weight: 600; }
.small { font-size: 12px; fill: #57606a; }
.end { text-anchor: end; }
.paper { fill: #ffffff; }
.ours { fill: #2668c5; }
.others { fill: #afb8c1; }
.axis { stroke: #c4ccd4; stroke-width: 1; }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3; }
  .small { fill: #9aa5b1; }
  .paper { fill: #0d1117; }
  .ours { fill: #5c9dff; }
  .others { fill: #57606a; }
  .axis { stroke: #3a444f; }
}
`

// charted are the runs that the chart shows, each with a scale of its own, in
// this order.
func charted() [][3]string {
	return [][3]string{
		{"few", "100k", tmpfs}, {"nothing", "100k", tmpfs}, {"back", "100k", tmpfs}, {"far-back", "100k", tmpfs},
		{"cold", "100k", tmpfs}, {"cold", "100k", ext4}, {"history", history, tmpfs}, {"tiny", "tiny", tmpfs},
	}
}

const chartHeading = "From git push to the web root: time, shorter is better"

// A drawing is drawn from top to bottom.
type drawing struct {
	y    float64 // of what comes next
	body bytes.Buffer
	said []string // what it shows, in words
}

// chart draws the results as a picture that stands alone: nothing is loaded,
// nothing runs, and its text is text.
func (r *results) chart() string {
	d := &drawing{y: 52}
	for _, one := range charted() {
		s, known := scenarioNamed(one[0])
		if measured := r.find(one[0], one[2]); known && measured != nil {
			d.group(measured, s, one[1])
		}
	}
	lines := r.Machine.text()
	for _, line := range lines[:min(2, len(lines))] {
		d.text("small", 20, d.y, line)
		d.y += lineHeight - 4
	}
	var out bytes.Buffer
	fmt.Fprintf(&out, `<svg xmlns="http://www.w3.org/2000/svg" width="%[1]d" height="%.0[2]f" viewBox="0 0 %[1]d %.0[2]f" role="img" aria-labelledby="title desc">`+"\n", chartWidth, d.y)
	fmt.Fprintf(&out, "<title id=\"title\">%s</title>\n<desc id=\"desc\">%s</desc>\n<style>%s</style>\n", chartHeading, escape(strings.Join(d.said, " ")), chartStyle)
	fmt.Fprintf(&out, `<rect class="paper" width="%d" height="%.0f"/>`+"\n", chartWidth, d.y)
	fmt.Fprintf(&out, `<text class="head" x="20" y="32">%s</text>`+"\n", chartHeading)
	out.Write(d.body.Bytes())
	out.WriteString("</svg>\n")
	return out.String()
}

func (d *drawing) draw(format string, args ...any) { fmt.Fprintf(&d.body, format+"\n", args...) }

func (d *drawing) text(class string, x, y float64, text string) {
	d.draw(`<text class="%s" x="%.1f" y="%.1f">%s</text>`, class, x, y, escape(text))
}

// group draws the contestants of one run with one site.
func (d *drawing) group(r *run, s scenario, site string) {
	longest := 0.0
	for _, l := range r.Lanes {
		if l.Site == site {
			longest = max(longest, spreadOf(l.series(s.metric)).Median)
		}
	}
	if longest == 0 {
		return
	}
	heading := s.heading(site, r.Place)
	d.text("group", 20, d.y+14, heading)
	d.text("small end", chartWidth-20, d.y+14, string(s.metric)+"; × against the bash hook")
	d.y += lineHeight + 2
	top := d.y
	var said []string
	for _, l := range r.Lanes {
		middle := spreadOf(l.series(s.metric)).Median
		if l.Site != site || middle == 0 {
			continue
		}
		class := "others"
		if ours(l.Contestant) {
			class = "ours"
		}
		name, value := strings.ReplaceAll(nameOf(l.Contestant), "`", ""), duration(middle)+r.faster(l, s)
		width := max(1.5, middle/longest*(chartWidth-chartLeft-chartRight))
		d.text("end", chartLeft-10, d.y+14, name)
		d.draw(`<rect class="%s" x="%d" y="%.1f" width="%.1f" height="%d"/>`, class, chartLeft, d.y, width, barHeight)
		d.text("", chartLeft+width+8, d.y+14, value)
		said = append(said, name+" "+value)
		d.y += barHeight + barGap
	}
	d.draw(`<line class="axis" x1="%d" y1="%.1f" x2="%d" y2="%.1f"/>`, chartLeft, top-3, chartLeft, d.y-3)
	d.said = append(d.said, heading+": "+strings.Join(said, ", ")+".")
	d.y += groupGap
}

// faster tells how one of ours compares with the bash hook.
func (r *run) faster(l lane, s scenario) string {
	script := r.lane(l.Site, script)
	if !ours(l.Contestant) || script == nil {
		return ""
	}
	ratio := spreadOf(quotients(script.series(s.metric), l.series(s.metric))).Median
	if ratio >= 1 {
		return fmt.Sprintf(", %s× faster", significant(ratio))
	}
	return fmt.Sprintf(", %s× the time", significant(1/ratio))
}

// escape makes any text fit for XML.
func escape(text string) string {
	var b strings.Builder
	xml.EscapeText(&b, []byte(text)) // a Builder takes everything
	return b.String()
}
