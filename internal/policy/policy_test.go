package policy

import (
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"bluegreen/internal/git"
)

func oid(t *testing.T, digit string) git.OID {
	t.Helper()
	o, err := git.ParseOID(strings.Repeat(digit, 40))
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func TestDecide(t *testing.T) {
	t.Parallel()
	none, one, two := git.OID{}, oid(t, "1"), oid(t, "2")
	for _, c := range []struct {
		name     string
		branch   string
		old, new git.OID
		ref      string
		target   string
		want     Action
		reason   string
	}{
		{"created", "master", none, one, "refs/heads/master", "", Deploy, ""},
		{"moved", "master", one, two, "refs/heads/master", "", Deploy, ""},
		{"moved nowhere", "master", one, one, "refs/heads/master", "", Deploy, ""},
		{"symbolic itself", "master", one, two, "refs/heads/master", "refs/heads/trunk", Deploy, ""},
		{"deleted", "master", one, none, "refs/heads/master", "", Refuse, `"master" is what is deployed here, and cannot be deleted`},
		{"deleted though not there", "master", none, none, "refs/heads/master", "", Refuse, `"master" is what is deployed here, and cannot be deleted`},
		{"another branch", "master", one, two, "refs/heads/main", "", Store, ""},
		{"ends alike", "master", one, two, "refs/heads/feature/master", "", Store, ""},
		{"begins alike", "master", one, two, "refs/heads/master/x", "", Store, ""},
		{"another branch deleted", "master", one, none, "refs/heads/main", "", Store, ""},
		{"a tag of that name", "master", none, one, "refs/tags/master", "", Store, ""},
		{"a remote's branch", "master", none, one, "refs/remotes/refs/heads/master", "", Store, ""},
		{"notes", "master", none, one, "refs/notes/commits", "", Store, ""},
		{"replaces", "master", none, one, "refs/replace/" + two.String(), "", Refuse, `"refs/replace/` + two.String() + `" would change what a commit stands for here`},
		{"replaces no more", "master", one, none, "refs/replace/" + two.String(), "", Refuse, `"refs/replace/` + two.String() + `" would change what a commit stands for here`},
		{"replaces nothing", "master", none, one, "refs/replacement/x", "", Store, ""},
		{"stands for it", "master", one, two, "refs/heads/main", "refs/heads/master", Refuse, `"refs/heads/main" stands for "master" here`},
		{"stands for it, deleted", "master", one, none, "refs/heads/main", "refs/heads/master", Refuse, `"refs/heads/main" stands for "master" here`},
		{"stands for another", "master", one, two, "refs/heads/main", "refs/heads/trunk", Store, ""},
		{"main", "main", none, one, "refs/heads/main", "", Deploy, ""},
		{"master where main is", "main", none, one, "refs/heads/master", "", Store, ""},
		{"with a slash", "site/live", none, one, "refs/heads/site/live", "", Deploy, ""},
		{"a tag that promotes", "master", none, one, "refs/tags/release-2", "", Promote, ""},
		{"moved", "master", one, two, "refs/tags/release-2", "", Promote, ""},
		{"deleted", "master", one, none, "refs/tags/release-2", "", Store, ""},
		{"another tag", "master", none, one, "refs/tags/v2", "", Store, ""},
		{"deeper than the pattern", "master", none, one, "refs/tags/release-2/x", "", Store, ""},
		{"a branch of that name", "master", none, one, "refs/heads/release-2", "", Store, ""},
		{"a tag that migrates", "master", none, one, "refs/tags/schema-4", "", Migrate, ""},
		{"moved", "master", one, two, "refs/tags/schema-4", "", Migrate, ""},
		{"deleted", "master", one, none, "refs/tags/schema-4", "", Store, ""},
		{"a branch of that name", "master", none, one, "refs/heads/schema-4", "", Store, ""},
		{"does both", "master", none, one, "refs/tags/both-4", "", Refuse, `"both-4" is among promotion.tags and among database.tags`},
		{"does both, deleted", "master", one, none, "refs/tags/both-4", "", Store, ""},
		{"stands for a branch, migrates", "master", one, two, "refs/tags/schema-4", "refs/heads/x", Refuse, `"refs/tags/schema-4" stands for "refs/heads/x" here, and cannot migrate`},
		{"a tag that stands for a branch", "master", one, two, "refs/tags/release-2", "refs/heads/x", Refuse, `"refs/tags/release-2" stands for "refs/heads/x" here, and cannot promote`},
	} {
		d := Rules{Branch: c.branch, Tags: []string{"release-*", "both-*"}, SchemaTags: []string{"schema-*", "*-4"}}.Decide([]Update{{Old: c.old, New: c.new, Ref: c.ref}}, map[string]string{c.ref: c.target})[0]
		if d.Action != c.want || d.Reason != c.reason || d.Ref != c.ref || d.Old != c.old || d.New != c.new {
			t.Errorf("%s: %+v, want action %d and %q", c.name, d, c.want, c.reason)
		}
		if (d.Action == Refuse) != (d.Hint != "") {
			t.Errorf("%s: action %d with hint %q", c.name, d.Action, d.Hint)
		}
	}
}

// TestSeveralTags: two promotions in one push are both refused, whatever else
// is in it; a deletion is none.
func TestSeveralTags(t *testing.T) {
	t.Parallel()
	none, one, two := git.OID{}, oid(t, "1"), oid(t, "2")
	rules := Rules{Branch: "master", Tags: []string{"release-*", "v?"}, SchemaTags: []string{"schema-*"}}
	updates := []Update{
		{none, one, "refs/tags/release-1"}, {one, two, "refs/heads/master"}, {one, two, "refs/tags/v2"},
		{one, none, "refs/tags/release-3"}, {none, one, "refs/tags/other"},
	}
	var got []Action
	for _, d := range rules.Decide(updates, nil) {
		got = append(got, d.Action)
		if (d.Action == Refuse) != (d.Reason != "" && d.Hint != "") || (d.Ref == "refs/tags/release-3") != (d.Warning != "") {
			t.Errorf("%+v", d)
		}
	}
	if want := []Action{Refuse, Deploy, Refuse, Store, Store}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	several := []Update{{none, one, "refs/tags/schema-1"}, {none, one, "refs/tags/release-1"}, {none, one, "refs/tags/schema-2"}}
	if d := rules.Decide(several, nil); d[0].Action != Refuse || d[1].Action != Promote || d[2].Reason != "2 tags in this push migrate, and only one can" {
		t.Errorf("two migrations beside a promotion: %+v", d)
	}
	if d := rules.Decide(updates[1:4], nil); d[0].Action != Deploy || d[1].Action != Promote || d[2].Action != Store {
		t.Errorf("one tag beside a deleted one: %+v", d)
	}
}

func TestParseOptions(t *testing.T) {
	t.Parallel()
	const waitless = -1
	for _, c := range []struct {
		raw  []string
		want Options // Raw is what came
		err  string
	}{
		{nil, Options{Wait: waitless}, ""},
		{[]string{"plan"}, Options{Plan: true, Wait: waitless}, ""},
		{[]string{"live"}, Options{Live: true, Wait: waitless}, ""},
		{[]string{"live", "plan", "live"}, Options{Plan: true, Live: true, Wait: waitless}, ""},
		{[]string{"wait=90s"}, Options{Wait: 90 * time.Second}, ""},
		{[]string{"wait=0s"}, Options{}, ""},
		{[]string{"wait=0"}, Options{}, ""},
		{[]string{"wait=1m", "wait=2m"}, Options{Wait: 2 * time.Minute}, ""},
		{[]string{"wait=24h"}, Options{Wait: 24 * time.Hour}, ""},
		{[]string{"wait=24h1s"}, Options{}, `push option "wait": "24h1s" is not a duration`},
		{[]string{"wait=-1s"}, Options{}, `"-1s" is not a duration`},
		{[]string{"wait="}, Options{}, `"" is not a duration`},
		{[]string{"wait=30"}, Options{}, `"30" is not a duration`},
		{[]string{"wait=1h;rm"}, Options{}, "is not a duration"},
		{[]string{"wait"}, Options{}, `push option "wait" is not known; known are: plan, live, no-way-back, promote, wait=DURATION`},
		{[]string{""}, Options{}, `push option "" is not known`},
		{[]string{"Plan"}, Options{}, "is not known"},
		{[]string{" plan"}, Options{}, "is not known"},
		{[]string{"plan=1"}, Options{}, "is not known"},
		{[]string{"plan\nlive"}, Options{}, `push option "plan\nlive" is not known`},
		{[]string{"plan;live"}, Options{}, "is not known"},
		{[]string{"\x1b[31m"}, Options{}, `push option "\x1b[31m" is not known`},
		{[]string{"promote"}, Options{Promote: true, Wait: waitless}, ""},
		{[]string{"no-way-back"}, Options{NoWayBack: true, Wait: waitless}, ""},
		{[]string{"no-way-back=1"}, Options{}, "is not known"},
		{[]string{"plan", "nonsense"}, Options{}, `push option "nonsense" is not known`},
		{slices.Repeat([]string{"live"}, 32), Options{Live: true, Wait: waitless}, ""},
		{slices.Repeat([]string{"live"}, 33), Options{}, "33 push options are too many; known are: plan, live, no-way-back, promote, wait=DURATION"},
	} {
		got, err := ParseOptions(c.raw)
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%q: error %v, want %q", c.raw, err, c.err)
			}
			continue
		}
		if err != nil || got.Plan != c.want.Plan || got.Live != c.want.Live || got.Promote != c.want.Promote || got.NoWayBack != c.want.NoWayBack || got.Wait != c.want.Wait || !slices.Equal(got.Raw, c.raw) {
			t.Errorf("%q: %+v, %v; want %+v", c.raw, got, err, c.want)
		}
	}
}

// FuzzParseOptions reads options that are separated by NULs.
func FuzzParseOptions(f *testing.F) {
	for _, seed := range []string{"", "plan", "live\x00wait=3s", "wait=1h\x00plan\x00x", strings.Repeat("live\x00", 40), "w\xff=\x1b", strings.Repeat("é", 300), "wait=" + strings.Repeat("x", 2000)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, joined string) {
		raw := strings.Split(joined, "\x00")
		o, err := ParseOptions(raw)
		size := 0
		for _, option := range o.Raw {
			size += len(option)
		}
		if size > 32*200 || len(o.Raw) > 32 {
			t.Errorf("%d options of %d bytes would go into the history", len(o.Raw), size)
		}
		if err == nil {
			if !slices.Equal(o.Raw, raw) {
				t.Errorf("Raw is %q, want %q", o.Raw, raw)
			}
			for _, option := range raw {
				if !slices.Contains([]string{"plan", "live", "promote", "no-way-back"}, option) && !strings.HasPrefix(option, "wait=") {
					t.Errorf("%q was taken", option)
				}
			}
			if o.Wait < -1 || o.Wait > 24*time.Hour {
				t.Errorf("waits %s", o.Wait)
			}
			return
		}
		if len(err.Error()) > 1000 {
			t.Errorf("an error of %d bytes", len(err.Error()))
		}
		for _, r := range err.Error() {
			if unicode.IsControl(r) {
				t.Errorf("the error %q has a control character", err)
			}
		}
	})
}
