//go:build e2e

package e2e_test

import (
	"strings"
	"time"
)

// byHand sets a server up as people do who follow the tutorial.
const byHand = `
useradd --create-home --shell /bin/bash --password '*' deploy
chown -R deploy: /var/www/html
su deploy -c 'umask 022; git init --quiet --bare --initial-branch=master ~/sample_app; mkdir -m 700 ~/.ssh; umask 077; cat >~/.ssh/authorized_keys' <ann.pub
cat >/home/deploy/sample_app/hooks/post-receive <<'END'
#!/bin/bash
site=/var/www/html
while read -r _ to name; do
	[ "$name" = refs/heads/master ] || continue
	git --git-dir="$HOME/sample_app" --work-tree="$site" checkout --quiet --force master
	echo "$(hostname) serves ${to:0:7} now"
done
END
chown deploy: /home/deploy/sample_app/hooks/post-receive
chmod 755 /home/deploy/sample_app/hooks/post-receive`

// adoption turns blue over, which deploys by a hook of its own, and gives it back.
func adoption(s *story) {
	if s.full == nil {
		s.blue.sh("export DEBIAN_FRONTEND=noninteractive; apt-get -q update && apt-get -q -y install --no-install-recommends apache2 git")
	}
	s.blue.sh("mkdir -p /var/www/html")
	s.blue.startWeb()
	s.blue.sh(byHand)
	s.git("remote", "add", "blue", "deploy@blue:sample_app")
	s.dev.must(ann, "sh", "-euc", "cd sample_app; echo 1 >first.html; echo 2 >second.html")
	s.release("version-1")
	s.pushedByHand("version-1")
	s.blue.sh("cd /var/www/html; mkdir uploads; echo picture >uploads/photo.jpg; chown -R deploy: uploads")
	visitors := visit(s, s.dev, "the server", bluePublic)
	visitors.first("version-1", time.Now())
	files, access := s.written(s.blue), s.blue.sh(accessByHand)

	began := time.Now()
	s.asRoot(s.blue, "./bluegreen install --repo "+repository+" --key ann.pub")
	took := time.Since(began)
	visitors.first("version-1", time.Now())
	s.unharmed(visitors, "a server that was set up by hand is turned over", took, began)
	s.nothingLost(files)
	if status, out := s.ssh(s.blue, "id"); status == 0 {
		s.Errorf("ann's key still gives a shell: %s", out)
	}
	s.dev.must(ann, "rm", "sample_app/first.html")
	s.release("version-2")
	began = s.pushed("blue", "master")
	s.answered(visitors, "its first push, to served", visitors.first("version-2", began).Sub(began), began)
	s.exactly("version-2")

	began = time.Now()
	s.asRoot(s.blue, "bluegreen uninstall --repo "+repository)
	took = time.Since(began)
	visitors.first("version-2", time.Now())
	s.unharmed(visitors, "it is given back", took, began)
	if now := s.blue.sh(accessByHand); now != access {
		s.Errorf("uninstall has left\n%s\nwhere it was\n%s", now, access)
	}
	s.dev.must(ann, "rm", "sample_app/second.html")
	s.release("version-3")
	s.pushedByHand("version-3")
	s.exactly("version-3")
}

// accessByHand tells what lets pushes in, and what they run.
const accessByHand = `cd ` + repository + `
git config --file config --list
ls -ln --time-style=+ hooks/*-receive ../.ssh
stat --format '%n %U %a' hooks ../.ssh
cat hooks/post-receive ../.ssh/authorized_keys`

// pushedByHand pushes to blue as long as its own hook deploys.
func (s *story) pushedByHand(version string) {
	s.Helper()
	out := s.git("push", "blue", "master")
	s.Logf("$ git push blue master\n%s", indent(out))
	if !strings.Contains(out, "remote: blue serves ") || strings.Contains(out, "success: ") {
		s.Error("the server's own hook has not deployed")
	}
	s.wholly(s.blue, version)
}

// nothingLost checks that what blue had before it has, and its own hook beside
// ours. In the web root nothing has been touched.
func (s *story) nothingLost(before map[string]string) {
	s.Helper()
	after := s.written(s.blue)
	const hook = repository + "/hooks/post-receive"
	for path, file := range before {
		switch now, found := after[path]; {
		case !found:
			s.Errorf("install has lost %s", path)
		case strings.HasPrefix(path, webRoot+"/") && now != file:
			s.Errorf("install has changed %s", path)
		}
	}
	if after[hook+".before-bluegreen"] != before[hook] {
		s.Error("install has not kept the server's own hook")
	}
}

// exactly checks that blue's web root has the files of a version, those that
// nobody has committed, and no other.
func (s *story) exactly(version string) {
	s.Helper()
	s.wholly(s.blue, version)
	has := s.blue.sh("cd " + webRoot + "; find . -type f | cut -c 3- | sort")
	want := s.git("ls-tree", "-r", "--name-only", s.commits[version]) + "uploads/photo.jpg\n"
	if has != want {
		s.Errorf("the web root of blue has\n%s\nand not, for %s,\n%s", has, version, want)
	}
}
