package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"
)

// A scene is one part of the story.
type scene struct {
	title string
	play  func(ctx context.Context, d *demo)
}

func scenes() []scene {
	return []scene{
		{"Two servers, blue and green, get a repository that deploys", prepare},
		{"Version 1 goes to both", first},
		{"Green gets the floating IP: visitors see version 1", opening},
		{"Version 2 goes to blue, and visitors go on seeing version 1", second},
		{"Nobody deploys over the visitors' heads", guarded},
		{"A tag releases version 2, and the way back and forth is short", released},
		{"Version 3 is broken: the push fails, and green returns to version 1", spoilt},
		{"Version 3 is mended, and the same push succeeds", mended},
		{"What green knows about it, and how to go back without a push", back},
		{"Version 3 is released", third},
		{"Version 4 fails where only visitors go, and is taken back", failing},
		{"What the visitors saw", report},
	}
}

// settings is what goes into bluegreen.toml. The checks that are asked once a
// release is "promoted" come from outside, as visitors do.
const settings = `environment = "%[1]s"

[deploy]
directory = "%[2]s"
marker    = ".well-known/release.json"

[[health]]
name     = "home page"
url      = "http://%[3]s/"
body     = "App"
interval = "100ms"
within   = "2s"

[[health]]
name     = "shop"
url      = "http://%[3]s/shop.html"
interval = "100ms"
within   = "2s"

[[health]]
name     = "release, from outside"
at       = "promoted"
url      = "http://%[4]s/.well-known/release.json"
host     = "%[5]s"
body     = '"commit":"{commit}"'
interval = "100ms"
within   = "2s"

[[health]]
name     = "shop, from outside"
at       = "promoted"
url      = "http://%[4]s/shop.html"
host     = "%[5]s"
interval = "100ms"
within   = "2s"

[promotion]
ip           = "%[6]s"
droplets     = { blue = %[7]d, green = %[8]d }
token_file   = "%[9]s"
api_url      = "%[10]s"
metadata_url = "%[11]s"
`

func prepare(ctx context.Context, d *demo) {
	var major, minor int
	fmt.Sscanf(d.ask(ctx, laptop, "git version"), "git version %d.%d", &major, &minor)
	d.check(major > 2 || minor >= 29, "this is git %d.%d; hooks that decide on a push need 2.29", major, minor)
	for _, command := range []string{
		"git init -q --bare",
		"cp ~/bin/*-receive hooks/",
		"git config --add receive.procReceiveRefs refs/heads/master",
		"git config --add receive.procReceiveRefs refs/tags",
		"git config receive.advertisePushOptions true",
		"git config receive.fsckObjects true",
		"git config core.fsync all", // before git 2.36 it changes nothing
	} {
		d.run(ctx, "blue", command, 0)
		d.ask(ctx, "green", command)
	}
	for _, s := range d.sites() {
		home := d.dir + "/" + s.name
		text := fmt.Appendf(nil, settings, s.name, s.dir, s.address, d.outside.Addr(), production,
			floatingIP, blueDroplet, greenDroplet, home+"/token", d.api, d.metadata[s.name])
		err := os.WriteFile(home+"/sample_app/bluegreen.toml", text, 0o644)
		d.check(err == nil, "%w", err)
	}
	d.run(ctx, "blue", "cat bluegreen.toml", 0)
	d.say("# Green is set up in the same way. The cloud is simulated, on this machine:\n" +
		"# its API, each server's metadata, and a port that stands for the floating IP.")
}

func first(ctx context.Context, d *demo) {
	d.run(ctx, laptop, "git init -q", 0)
	d.run(ctx, laptop, "git remote add blue ../../blue/sample_app", 0)
	d.run(ctx, laptop, "git remote add green ../../green/sample_app", 0)
	d.run(ctx, laptop, "echo 'App v1' > index.html", 0)
	d.run(ctx, laptop, "echo 'The shop is open' > shop.html", 0)
	d.run(ctx, laptop, "git add .", 0)
	d.run(ctx, laptop, "git commit -q -m 'version 1'", 0)
	v1 := d.ask(ctx, laptop, "git rev-parse HEAD")
	for _, s := range d.sites() {
		d.push(ctx, "git push "+s.name+" master", "success:", " * [new branch]      master -> master", "App v1")
		d.holds(ctx, s, v1, v1)
		d.visitor(s.name).expect("App v1")
		d.visitor(s.name).start()
	}
	d.say("# From now on both are asked for their home page a hundred times a second.")
	d.look(ctx)
}

func opening(ctx context.Context, d *demo) {
	d.say("# Nobody has it yet: whoever asks it gets no answer.")
	d.run(ctx, laptop, "git tag release-1", 0)
	d.push(ctx, "git push green release-1", "success:", " * [new tag]         release-1 -> release-1", "production is App v1")
	p := d.visitor("production")
	p.expect("App v1")
	p.start()
	d.see(ctx, "green", "App v1", "App v1", "App v1")
	d.say("# From now on the floating IP is asked just as often, for %s.", production)
}

func second(ctx context.Context, d *demo) {
	d.run(ctx, laptop, "echo 'App v2' > index.html", 0)
	d.run(ctx, laptop, "git commit -q -a -m 'version 2'", 0)
	v1 := d.ask(ctx, laptop, "git rev-parse HEAD~1")
	d.say("# What would this push do? Nothing moves for the asking.")
	d.push(ctx, "git push -o plan blue master", "warning:", " ! [remote rejected] master -> master (plan only)", "")
	d.holds(ctx, d.blue, v1, v1)
	d.say("# Now in earnest.")
	d.release(ctx, d.blue, "App v1", "App v2")
	d.see(ctx, "green", "App v1", "App v2", "App v1")
}

func guarded(ctx context.Context, d *demo) {
	v1 := d.ask(ctx, laptop, "git rev-parse HEAD~1")
	out := d.push(ctx, "git push green master", "error:", " ! [remote rejected] master -> master (pre-receive hook declined)",
		"refused, green is live")
	d.check(strings.Contains(out, "green is live"), "the reason is another one")
	d.holds(ctx, d.green, v1, v1)
	d.see(ctx, "green", "App v1", "App v2", "App v1")
}

func released(ctx context.Context, d *demo) {
	d.run(ctx, laptop, "git tag release-2", 0)
	d.promote(ctx, laptop, "git push blue release-2", "App v1", "App v2")
	d.see(ctx, "blue", "App v2", "App v2", "App v1")
	d.say("# Suppose somebody complains.")
	d.promote(ctx, "green", "bluegreen rollback", "App v2", "App v1")
	d.see(ctx, "green", "App v1", "App v2", "App v1")
	d.say("# It was a misunderstanding.")
	d.promote(ctx, "blue", "bluegreen promote", "App v1", "App v2")
	d.see(ctx, "blue", "App v2", "App v2", "App v1")
}

func spoilt(ctx context.Context, d *demo) {
	d.say("# Pages are templates here, and this one lacks its closing braces.")
	d.run(ctx, laptop, "echo 'App v3 on {{.Environment' > index.html", 0)
	d.run(ctx, laptop, "git commit -q -a -m 'version 3'", 0)
	v1 := d.ask(ctx, laptop, "git rev-parse release-1")
	d.visitor("green").expect("App v1", "status 500")
	d.push(ctx, "git push green master", "error:",
		` ! [remote rejected] master -> master ("home page" is not healthy: status 500`,
		"failed, green keeps version 1")
	d.visitor("green").expect("App v1")
	d.say("# The branch on green has not moved: it is at version 1, %.7s.", v1)
	ref := d.run(ctx, laptop, "git ls-remote green master", 0)
	d.check(ref == v1+"\trefs/heads/master\n", "the branch on green is not at %s", v1)
	d.holds(ctx, d.green, v1, v1)
	d.see(ctx, "blue", "App v2", "App v2", "App v1")
}

func mended(ctx context.Context, d *demo) {
	d.run(ctx, laptop, "echo 'App v3 on {{.Environment}}' > index.html", 0)
	d.run(ctx, laptop, "git commit -q -a --amend --no-edit", 0)
	d.say("# No --force: green never took the commit that was amended.")
	d.release(ctx, d.green, "App v1", "App v3 on green")
	d.see(ctx, "blue", "App v2", "App v2", "App v3 on green")
}

func back(ctx context.Context, d *demo) {
	v1, v3 := d.ask(ctx, laptop, "git rev-parse release-1"), d.ask(ctx, laptop, "git rev-parse HEAD")
	out := d.run(ctx, "green", "bluegreen history -n 3", 0)
	d.check(strings.Count(out, "succeeded") == 2 && strings.Count(out, "failed") == 1, "the history is another one")
	command := fmt.Sprintf("bluegreen deploy %.7s", v1)
	out = d.run(ctx, "green", "bluegreen status", 0)
	d.check(strings.Contains(out, command), "status does not show the way back, %s", command)
	d.redeploy(ctx, command, "App v1")
	d.holds(ctx, d.green, v1, v3)
	d.redeploy(ctx, "bluegreen deploy master", "App v3 on green")
	d.holds(ctx, d.green, v3, v3)
}

func third(ctx context.Context, d *demo) {
	d.run(ctx, laptop, "git tag release-3", 0)
	d.promote(ctx, laptop, "git push green release-3", "App v2", "App v3 on green")
	d.see(ctx, "green", "App v3 on green", "App v2", "App v3 on green")
}

func failing(ctx context.Context, d *demo) {
	d.say("# Version 4 greets the shop's visitors, with a name that it does not have.\n"+
		"# Nobody notices as long as the shop is not asked for as %s.", production)
	d.run(ctx, laptop, "echo 'App v4 on {{.Environment}}' > index.html", 0)
	shop := fmt.Appendf(nil, "The shop is open\n{{- if eq .Host %q}}, {{.Visitor}}{{end}}\n", production)
	err := os.WriteFile(d.dir+"/"+laptop+"/sample_app/shop.html", shop, 0o644)
	d.check(err == nil, "%w", err)
	d.run(ctx, laptop, "cat shop.html", 0)
	d.run(ctx, laptop, "git commit -q -a -m 'version 4'", 0)
	d.run(ctx, laptop, "git tag release-4", 0)
	d.release(ctx, d.blue, "App v2", "App v4 on blue")
	v3, v4 := d.ask(ctx, laptop, "git rev-parse HEAD~1"), d.ask(ctx, laptop, "git rev-parse HEAD")

	d.visitor("production").expect("App v3 on green", "App v4 on blue")
	out := d.push(ctx, "git push blue release-4", "error:",
		" ! [remote rejected] release-4 -> release-4 (the outside does not see the release", "moved, found broken, refused")
	d.visitor("production").expect("App v3 on green")
	d.check(strings.Contains(out, floatingIP+" is back with green"), "nobody says that %s is back with green", floatingIP)
	tags := d.run(ctx, laptop, "git ls-remote --tags blue", 0)
	d.check(strings.Contains(tags, "release-2") && !strings.Contains(tags, "release-4"), "blue has other tags")
	moves := d.cloud.Moves()
	to, from := moves[len(moves)-2], moves[len(moves)-1]
	d.check(to.To == blueDroplet && from.To == greenDroplet, "the floating IP took another way")
	d.event(from.Time, true, "broken, seen from outside: moved back to green by itself")
	d.holds(ctx, d.blue, v4, v4)
	d.holds(ctx, d.green, v3, v3)
	d.see(ctx, "green", "App v3 on green", "App v4 on blue", "App v3 on green")
}

// release pushes the laptop's commit to an environment that is not live. It
// serves meanwhile the page of before or of after, and then only the latter.
func (d *demo) release(ctx context.Context, s *site, before, after string) {
	from, to := d.ask(ctx, s.name, "git rev-parse refs/heads/master"), d.ask(ctx, laptop, "git rev-parse HEAD")
	d.visitor(s.name).expect(before, after)
	d.push(ctx, "git push "+s.name+" master", "success:", fmt.Sprintf("   %.7s..%.7s  master -> master", from, to), after)
	d.visitor(s.name).expect(after)
	d.holds(ctx, s, to, to)
}

// redeploy brings green to a commit that it has.
func (d *demo) redeploy(ctx context.Context, command, after string) {
	green := d.visitor("green")
	green.expect("App v1", "App v3 on green")
	at := time.Now()
	out := d.run(ctx, "green", command, 0)
	green.expect(after)
	d.check(strings.HasPrefix(out, "success: "), "%s does not say that it succeeded", command)
	d.event(at, false, "%s on green: %s", command, after)
	d.see(ctx, "blue", "App v2", "App v2", after)
}

// promote moves the floating IP, by a tag that is pushed or by the operator's
// command. Visitors see the page of before or of after, and then only the
// latter.
func (d *demo) promote(ctx context.Context, machine, command, before, after string) {
	d.visitor("production").expect(before, after)
	if machine == laptop {
		d.push(ctx, command, "success:", " * [new tag]", "production is "+after)
	} else {
		at := time.Now()
		out := d.run(ctx, machine, command, 0)
		d.check(strings.Contains(out, "success: "), "%s does not say that it succeeded", command)
		d.event(at, false, "%s on %s: production is %s", command, machine, after)
	}
	d.visitor("production").expect(after)
}

// push runs a git push, which is to succeed if and only if word is "success:".
// The server's last line is to begin with word, and a line of git's with line.
// What became of it goes into the timeline, if it is not "".
func (d *demo) push(ctx context.Context, command, word, line, what string) string {
	status := 1
	if word == "success:" {
		status = 0
	}
	at := time.Now()
	out := d.run(ctx, laptop, command, status)
	_, last, _ := strings.Cut(out[max(0, strings.LastIndex(out, "remote: ")):], "remote: ")
	d.check(strings.HasPrefix(last, word), "%s: the server's last line does not begin with %q", command, word)
	d.check(strings.Contains("\n"+out, "\n"+line), "%s: git does not say %q", command, line)
	if what != "" {
		d.event(at, status != 0, "%s: %s", command, what)
	}
	return out
}

// holds wants a healthy site with a commit in its web root, and its branch at
// the same or another one. It has to know whether it is live.
func (d *demo) holds(ctx context.Context, s *site, deployed, branch string) {
	text, ref := d.ask(ctx, s.name, "bluegreen status --json"), d.ask(ctx, s.name, "git rev-parse refs/heads/master")
	var got map[string]any
	err := json.Unmarshal([]byte(text), &got)
	d.check(err == nil && got["environment"] == s.name && got["commit"] == deployed && got["ref_commit"] == branch && ref == branch &&
		got["healthy"] == true && got["live"] == (d.live() == s.name) && fmt.Sprint(got["drift"]) == "[]" && got["unfinished"] == nil,
		"%s should hold %.7s, and its branch be at %.7s; it is at %.7s, and the status is %s", s.name, deployed, branch, ref, text)
}

// see wants the floating IP with an environment, asks production, blue and
// green for their page, and wants these answers. Then it lets the visitors see
// the same for a while.
func (d *demo) see(ctx context.Context, live string, answers ...string) {
	d.check(d.live() == live, "%s is with %q, and not with %s", floatingIP, d.live(), live)
	for i, v := range d.visitors {
		got := v.get().text
		d.say("GET %s on %-11s %s", v.url, v.name+":", got)
		d.check(got == answers[i], "%s answers %q, and not %q", v.name, got, answers[i])
	}
	d.look(ctx)
}
