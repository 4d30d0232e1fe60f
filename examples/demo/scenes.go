package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
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
		{"Version 2 goes to blue, and green goes on serving version 1", second},
		{"Version 3 is broken: the push fails, and blue returns to version 2", broken},
		{"Version 3 is mended, and the same push succeeds", mended},
		{"What blue knows about it, and how to go back without a push", back},
		{"What was seen by a client that asked both servers all the time", report},
	}
}

// settings is what goes into bluegreen.toml.
const settings = `environment = "%s"

[deploy]
directory = "%s"

[[health]]
name     = "home page"
url      = "%s"
body     = "App"
interval = "100ms"
within   = "2s"
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
		text := fmt.Appendf(nil, settings, s.name, s.root, s.url)
		err := os.WriteFile(d.dir+"/"+s.name+"/sample_app/bluegreen.toml", text, 0o644)
		d.check(err == nil, "%w", err)
	}
	d.run(ctx, "blue", "cat bluegreen.toml", 0)
	d.say("# Green is set up in the same way.")
}

func first(ctx context.Context, d *demo) {
	d.run(ctx, laptop, "git init -q", 0)
	d.run(ctx, laptop, "git remote add blue ../../blue/sample_app", 0)
	d.run(ctx, laptop, "git remote add green ../../green/sample_app", 0)
	d.run(ctx, laptop, "echo 'App v1' > index.html", 0)
	d.run(ctx, laptop, "git add .", 0)
	d.run(ctx, laptop, "git commit -q -m 'version 1'", 0)
	v1 := d.ask(ctx, laptop, "git rev-parse HEAD")
	for _, s := range d.sites() {
		d.push(ctx, "git push "+s.name+" master", 0, "success:", " * [new branch]      master -> master")
		d.holds(ctx, s, v1, v1)
		s.expect("App v1")
		s.startClient()
	}
	d.visit("App v1", "App v1")
	d.say("# From now on a client asks both of them all the time.")
}

func second(ctx context.Context, d *demo) {
	d.run(ctx, laptop, "echo 'App v2' > index.html", 0)
	d.run(ctx, laptop, "git commit -q -a -m 'version 2'", 0)
	v1 := d.ask(ctx, laptop, "git rev-parse HEAD~1")
	d.say("# What would this push do? Nothing moves for the asking.")
	d.push(ctx, "git push -o plan blue master", 1, "warning:", " ! [remote rejected] master -> master (plan only)")
	d.holds(ctx, d.blue, v1, v1)
	d.say("# Now in earnest.")
	d.release(ctx, "App v1", "App v2")
	d.holds(ctx, d.green, v1, v1)
}

func broken(ctx context.Context, d *demo) {
	d.say("# Pages are templates here, and this one lacks its closing braces.")
	d.run(ctx, laptop, "echo 'App v3 on {{.Environment' > index.html", 0)
	d.run(ctx, laptop, "git commit -q -a -m 'version 3'", 0)
	v2 := d.ask(ctx, laptop, "git rev-parse HEAD~1")
	d.blue.expect("App v2", "status 500")
	d.push(ctx, "git push blue master", 1, "error:",
		` ! [remote rejected] master -> master ("home page" is not healthy: status 500`)
	d.blue.expect("App v2")
	d.visit("App v2", "App v1")
	d.say("# The branch on blue has not moved: it is at version 2, %.7s.", v2)
	ref := d.run(ctx, laptop, "git ls-remote blue master", 0)
	d.check(ref == v2+"\trefs/heads/master\n", "the branch on blue is not at %s", v2)
	d.holds(ctx, d.blue, v2, v2)
}

func mended(ctx context.Context, d *demo) {
	d.run(ctx, laptop, "echo 'App v3 on {{.Environment}}' > index.html", 0)
	d.run(ctx, laptop, "git commit -q -a --amend --no-edit", 0)
	d.say("# No --force: blue never took the commit that was amended.")
	d.release(ctx, "App v2", "App v3 on blue")
}

func back(ctx context.Context, d *demo) {
	v2, v3 := d.ask(ctx, laptop, "git rev-parse HEAD~1"), d.ask(ctx, laptop, "git rev-parse HEAD")
	out := d.run(ctx, "blue", "bluegreen history", 0)
	d.check(strings.Count(out, "succeeded") == 3 && strings.Count(out, "failed") == 1, "the history is another one")
	command := fmt.Sprintf("bluegreen deploy %.7s", v2)
	out = d.run(ctx, "blue", "bluegreen status", 0)
	d.check(strings.Contains(out, command), "status does not show the way back, %s", command)
	d.blue.expect("App v3 on blue", "App v2")
	out = d.run(ctx, "blue", command, 0)
	d.blue.expect("App v2")
	d.check(strings.HasPrefix(out, "success: "), "%s does not say that it succeeded", command)
	d.visit("App v2", "App v1")
	d.run(ctx, "blue", "bluegreen status", 0)
	d.holds(ctx, d.blue, v2, v3)
}

// report ends the clients, with their servers, and says what they saw.
func report(_ context.Context, d *demo) {
	asked, failed, wrong := 0, 0, []string{}
	for _, s := range d.sites() {
		s.close()
		var kinds []string
		for _, text := range slices.Sorted(maps.Keys(s.answers)) {
			kinds = append(kinds, fmt.Sprintf("%d x %s", s.answers[text], text))
			asked += s.answers[text]
			if strings.HasPrefix(text, noAnswer) {
				failed += s.answers[text]
			}
		}
		wrong = append(wrong, s.wrong...)
		d.check(len(kinds) > 0, "nobody asked %s", s.name)
		d.show(fmt.Sprintf("%-6s %s\n", s.name, strings.Join(kinds, ", ")))
	}
	d.say("%d requests, %d failed, %d answered with what should not be there", asked, failed, len(wrong)-failed)
	d.check(len(wrong) == 0, "the client saw %q", slices.Compact(wrong))
	d.say("# Status 500 is the broken version 3, on trial on blue until the push failed.\n# Green, where the visitors would be meanwhile, served version 1 all the time.")
}

// release pushes the laptop's commit to blue. Meanwhile blue serves the page
// of before or of after, and then only the latter.
func (d *demo) release(ctx context.Context, before, after string) {
	from, to := d.ask(ctx, laptop, "git rev-parse HEAD~1"), d.ask(ctx, laptop, "git rev-parse HEAD")
	d.blue.expect(before, after)
	d.push(ctx, "git push blue master", 0, "success:", fmt.Sprintf("   %.7s..%.7s  master -> master", from, to))
	d.blue.expect(after)
	d.visit(after, "App v1")
	d.holds(ctx, d.blue, to, to)
}

// push runs a git push. Its exit status is to be status, the server's last
// line is to begin with word, and a line of git's with line.
func (d *demo) push(ctx context.Context, command string, status int, word, line string) {
	out := d.run(ctx, laptop, command, status)
	_, last, _ := strings.Cut(out[max(0, strings.LastIndex(out, "remote: ")):], "remote: ")
	d.check(strings.HasPrefix(last, word), "%s: the server's last line does not begin with %q", command, word)
	d.check(strings.Contains("\n"+out, "\n"+line), "%s: git does not say %q", command, line)
}

// holds wants a healthy site with a commit in its web root, and its branch at
// the same or another one.
func (d *demo) holds(ctx context.Context, s *site, deployed, branch string) {
	text, ref := d.ask(ctx, s.name, "bluegreen status --json"), d.ask(ctx, s.name, "git rev-parse refs/heads/master")
	var got map[string]any
	err := json.Unmarshal([]byte(text), &got)
	d.check(err == nil && got["environment"] == s.name && got["commit"] == deployed && got["ref_commit"] == branch && ref == branch &&
		got["healthy"] == true && fmt.Sprint(got["drift"]) == "[]" && got["unfinished"] == nil,
		"%s should hold %.7s, and its branch be at %.7s; it is at %.7s, and the status is %s", s.name, deployed, branch, ref, text)
}

// visit asks both sites for their page, and wants these answers.
func (d *demo) visit(answers ...string) {
	for i, s := range d.sites() {
		got := s.get()
		d.say("GET %s on %-6s %s", s.url, s.name+":", got)
		d.check(got == answers[i], "%s answers %q, and not %q", s.name, got, answers[i])
	}
}
