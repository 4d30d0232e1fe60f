package main

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// samples are measured rounds whose hooks took these milliseconds.
func samples(hooks ...float64) []sample {
	var all []sample
	for _, ms := range hooks {
		all = append(all, sample{Whole: ms + 25, CPU: 2 * ms, Hooks: map[string]float64{"pre-receive": ms / 4, "proc-receive": ms / 2, "post-receive": ms / 4}})
	}
	return all
}

func memory(peaks ...int64) []sample {
	var all []sample
	for _, peak := range peaks {
		all = append(all, sample{Whole: 1, OwnPeak: peak, GitPeak: 5e6})
	}
	return all
}

// measured are results with a slow round in each series.
func measured() *results {
	return &results{
		Machine: machine{CPU: "A <fast> processor", Cores: 2, Memory: 24e9, Kernel: "Linux 6.1", Git: "git version 2.39.5", Go: "go1.26.5",
			Program: "bluegreen 0.1.0", Load: "0.01 0.02 0.03", Places: []string{"tmpfs: /dev/shm"}},
		Started: time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC), Minutes: 12.3, Scale: 1,
		LeftOut: []string{"ext4: left out: mounting an image needs root"},
		Runs: []run{
			{"tiny", tmpfs, []lane{{"tiny", script, samples(10, 11, 12)}, {"tiny", verify, samples(14, 14, 20)}}},
			{"few", tmpfs, []lane{
				{"1k", script, samples(10, 10, 10)}, {"1k", trust, samples(5, 10, 5)},
				{"100k", script, samples(500, 1500, 600)}, {"100k", archive, samples(4000, 9000, 4000)},
				{"100k", verify, samples(250, 500, 300)}, {"100k", trust, samples(20, 60, 24)}}},
			{"cold", ext4, []lane{{"100k", script, samples(5000, 5000)}, {"100k", parallel, samples(4000, 4000)}, {"100k", verify, samples(5000, 3000)}}},
			{"memory", tmpfs, []lane{{"100k", script, memory(0, 0)}, {"100k", verify, memory(40e6, 101e6)}}},
		},
	}
}

func TestOutcomes(t *testing.T) {
	t.Parallel()
	var got []string
	for _, o := range measured().outcomes() {
		got = append(got, fmt.Sprintf("%s %s %s %s against %q: %s, %s: %v", o.scenario, o.site, o.place, o.subject, o.opponent, o.target(), o.measured(), o.met()))
	}
	want := []string{
		`tiny tiny tmpfs verify against "script": at most 1.15× the time, 1.11× (1.10–1.17): true`,
		`few 100k tmpfs verify against "script": at least 3× faster, 2.00× (2.00–2.50): false`,
		`few 100k tmpfs trust against "script": at least 10× faster, 25.0× (25.0–25.0): true`,
		`cold 100k ext4 verify against "parallel": at least 1× faster, 1.07× (0.93–1.20): true`,
		`memory 100k tmpfs verify against "": under 100 MB, 101 MB: false`,
		`few 100k tmpfs trust against "": grows at most 2×, 4.80× (4.40–5.40): false`,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestGoals makes sure that what the goals name is measured.
func TestGoals(t *testing.T) {
	t.Parallel()
	for _, g := range goals() {
		s, known := scenarioNamed(g.scenario)
		if !known {
			t.Errorf("%q is a goal of a scenario %q", g.work, g.scenario)
		}
		if !strings.Contains(" "+strings.Join(s.sites, " ")+" ", " "+g.site+" ") {
			t.Errorf("%q is a goal with the site %q, which %q does not have", g.work, g.site, s.name)
		}
		for _, key := range append(g.subjects, g.against...) {
			if !strings.Contains(" "+strings.Join(s.contestants, " ")+" ", " "+key+" ") {
				t.Errorf("%q is a goal of %q, which %q does not have", g.work, key, s.name)
			}
		}
		for _, place := range s.places {
			if g.place != "" && g.place != place {
				t.Errorf("%q is a goal at %q, where %q is not measured", g.work, g.place, s.name)
			}
		}
	}
	for _, c := range charted() {
		s, known := scenarioNamed(c[0])
		if !known || !strings.Contains(" "+strings.Join(s.sites, " ")+" ", " "+c[1]+" ") {
			t.Errorf("the chart has %v, which is not measured", c)
		}
	}
}

func TestMarkdown(t *testing.T) {
	t.Parallel()
	text := measured().markdown()
	for _, want := range []string{
		"On 3 February 2026, in 12 minutes",
		"- 2 × A <fast> processor, 24.0 GB of memory, Linux 6.1\n- git version 2.39.5, go1.26.5, bluegreen 0.1.0\n- tmpfs: /dev/shm\n",
		"- ext4: left out: mounting an image needs root\n",
		"| 100,000 files, 10 changed | tmpfs | bluegreen, in place | bash hook | at least 3× faster | 2.00× (2.00–2.50) | **no** |\n",
		"| 100,000 files, 10 changed | tmpfs | bluegreen, `verify = false` | bash hook | at least 10× faster | 25.0× (25.0–25.0) | yes |\n",
		"\n## 100,000 files: 10 files changed (tmpfs)\n\n" +
			"| contestant | time in the hooks | from–to | whole push | CPU, whole push | faster than bash hook | faster than `git archive \\| tar` + link |\n" +
			"| --- | --: | --: | --: | --: | --: | --: |\n" +
			"| bash hook | 600 ms | 500 ms–1.50 s | 625 ms | 1.20 s | – | 6.67× (6.33–7.33) |\n" +
			"| `git archive \\| tar` + link | 4.00 s | 4.00 s–9.00 s | 4.03 s | 8.00 s | 0.15× (0.14–0.16) | – |\n" +
			"| bluegreen, in place | 300 ms | 250 ms–500 ms | 325 ms | 600 ms | 2.00× (2.00–2.50) | 16.0× (14.7–17.0) |\n",
		"| contestant | peak memory of our programs | peak memory of git in the hook |\n| --- | --: | --: |\n" +
			"| bash hook | – | 5.00 MB |\n| bluegreen, in place | 101 MB | 5.00 MB |\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the tables lack\n%s\n\nin\n%s", want, text)
		}
	}
	columns := 0
	for line := range strings.Lines(text) {
		n := strings.Count(strings.ReplaceAll(line, `\|`, ""), "|")
		if n > 0 && columns > 0 && n != columns {
			t.Errorf("%q has %d cells, and not %d", line, n-1, columns-1)
		}
		columns = n
	}
	if strings.Contains(text, "bluegreen, `releases`") {
		t.Error("the tables have what was not measured")
	}
	scaled := measured()
	scaled.Scale = 0.1
	if text := scaled.markdown(); strings.Contains(text, "| yes |") || !strings.Contains(text, "| not judged |") || !strings.Contains(text, "only 0.1 times") {
		t.Errorf("goals are judged by a tenth of a site:\n%s", text)
	}
}

func TestChart(t *testing.T) {
	t.Parallel()
	picture := measured().chart()
	decoder, shown := xml.NewDecoder(strings.NewReader(picture)), ""
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if text, ok := token.(xml.CharData); ok {
			shown += string(text) + "\n"
		}
	}
	for _, want := range []string{"100,000 files: 10 files changed (tmpfs)", "24.0 ms, 25.0× faster", "300 ms, 2.00× faster", "4.00 s\n",
		"git archive | tar + link", "A <fast> processor", "36.0 ms\n", "39.0 ms, 1.11× the time"} {
		if !strings.Contains(shown, want) {
			t.Errorf("the picture does not say %q", want)
		}
	}
	if strings.Contains(picture, "href") || strings.Contains(picture, "url(") || strings.Contains(picture, "<script") {
		t.Error("the picture loads or runs something")
	}
	if !strings.Contains(picture, "prefers-color-scheme: dark") {
		t.Error("the picture has one scheme")
	}
	checkBars(t, picture)
}

// checkBars holds the bars against the numbers beside them: within a group a
// length stands for the same time.
func checkBars(t *testing.T, picture string) {
	t.Helper()
	bars := regexp.MustCompile(`<rect class="(?:ours|others)" [^>]*width="([0-9.]+)"[^>]*/>\n<text class="" x="([0-9.]+)" [^>]*>([0-9.]+) (m?s)`)
	groups := strings.Split(picture, `class="group"`)[1:]
	if len(groups) != 3 {
		t.Fatalf("%d groups, and not 3", len(groups))
	}
	for _, group := range groups {
		scale := 0.0
		for _, bar := range bars.FindAllStringSubmatch(group, -1) {
			number := func(text string) float64 {
				x, err := strconv.ParseFloat(text, 64)
				if err != nil {
					t.Fatal(err)
				}
				return x
			}
			width, ms := number(bar[1]), number(bar[3])
			if bar[4] == "s" {
				ms *= 1000
			}
			if scale == 0 {
				scale = ms / width
			}
			if drawn := width * scale; drawn < 0.9*ms || drawn > 1.1*ms {
				t.Errorf("a bar of %.0f ms is drawn as %.0f", ms, drawn)
			}
			if end := number(bar[2]) + chartRight; end > chartWidth+10 {
				t.Errorf("the text beside a bar of %.0f ends at %.0f", width, end)
			}
		}
		if scale == 0 {
			t.Errorf("no bars in %s", group)
		}
	}
}

// TestSave: tables and chart can be drawn again from the numbers alone.
func TestSave(t *testing.T) {
	t.Parallel()
	first, again := t.TempDir(), filepath.Join(t.TempDir(), "new")
	if err := measured().save(first); err != nil {
		t.Fatal(err)
	}
	if err := act(t.Context(), options{from: filepath.Join(first, resultsFile), to: again}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{resultsFile, tablesFile, chartFile} {
		a, err := os.ReadFile(filepath.Join(first, name))
		b, alsoErr := os.ReadFile(filepath.Join(again, name))
		if err != nil || alsoErr != nil || string(a) != string(b) {
			t.Errorf("%s differs, or is not there: %v, %v", name, err, alsoErr)
		}
	}
	loaded, err := load(filepath.Join(first, resultsFile))
	if err != nil || !reflect.DeepEqual(loaded, measured()) {
		t.Errorf("loaded %+v, %v", loaded, err)
	}
}
