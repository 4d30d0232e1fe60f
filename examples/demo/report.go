package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
)

// report ends the visitors, and shows what they saw.
func report(_ context.Context, d *demo) {
	var t timeline
	var wrong []string
	var sum tally
	t.events = d.events
	for _, v := range d.visitors {
		v.end()
		t.rows = append(t.rows, row{v.name, v.spans})
		one := v.tally()
		d.show(fmt.Sprintf("%-11s %s\n", v.name, strings.Join(one.texts, ", ")))
		d.check(one.asked > 0, "nobody asked %s", v.name)
		sum.asked, sum.failed, sum.wrong = sum.asked+one.asked, sum.failed+one.failed, sum.wrong+one.wrong
		for _, text := range v.wrong[:min(len(v.wrong), 3)] {
			wrong = append(wrong, v.name+": "+text)
		}
	}
	t.total = fmt.Sprintf("%d requests, %d failed, %d answered with what should not be there.", sum.asked, sum.failed, sum.wrong-sum.failed)
	d.say("%s\n# Status 500 is the broken version 3, on trial on green until the push failed.\n", t.total)
	var text, picture bytes.Buffer
	if d.err == nil {
		d.err = t.write(&text)
	}
	d.say("%s", strings.TrimRight(text.String(), "\n"))
	if d.svg != "" && d.err == nil {
		d.err = t.writeSVG(&picture)
		if d.err == nil {
			d.err = os.WriteFile(d.svg, picture.Bytes(), 0o644)
		}
		d.say("# The same as a picture is in %s.", d.svg)
	}
	d.check(len(wrong) == 0, "%s Such as %q", t.total, slices.Compact(wrong))
}
