//go:build e2e

package e2e_test

import "strings"

// brokerFile says what root's program may move.
const brokerFile = "/etc/bluegreen/brokers/sample_app.toml"

// brokered checks that the account has promoted without being able to read the
// token, and may ask root's program for nothing else.
func (s *story) brokered() {
	s.Helper()
	for _, server := range s.servers() {
		if out := server.sh("stat -c '%U %G %a' /etc/bluegreen/token " + brokerFile); out != "root root 600\nroot root 644\n" {
			s.Errorf("on %s token and broker's file are %s", server.name, out)
		}
		deploy := func(argv ...string) (status int, out string) {
			status, out = server.run(root, append([]string{"runuser", "-u", "deploy", "--"}, argv...)...)
			s.hidden(out)
			return status, out
		}
		if status, out := server.run(root, "sudo", "-u", "deploy", "cat", "/etc/bluegreen/token"); status == 0 || !strings.Contains(out, "Permission denied") {
			s.Errorf("deploy reads the token on %s: status %d, %s", server.name, status, out)
		}
		broker := []string{"sudo", "-n", "/usr/local/bin/bluegreen", "broker", "--config", brokerFile}
		status, out := deploy(append(broker, "state")...)
		s.Logf("deploy@%s$ %s state\n%s", server.name, strings.Join(broker, " "), indent(out))
		if status != 0 || !strings.Contains(out, `"Owner":"green"`) {
			s.Errorf("deploy cannot ask the broker on %s: status %d", server.name, status)
		}
		for _, argv := range [][]string{
			append(broker, "assign", "blue", "green"), append(broker, "assign", "red"), append(broker, "--help"),
			{"sudo", "-n", "/usr/local/bin/bluegreen", "broker", "--config", "/home/deploy/my.toml", "state"},
			{"sudo", "-n", "/usr/local/bin/bluegreen", "install"}, {"sudo", "-n", "cat", "/etc/bluegreen/token"},
			{"sudo", "-n", "HTTPS_PROXY=http://198.51.100.9:3128", "/usr/local/bin/bluegreen", "broker", "--config", brokerFile, "state"},
		} {
			if status, out := deploy(argv...); status == 0 || !strings.Contains(out, "sudo: ") {
				s.Errorf("deploy may run %q on %s: status %d, %s", argv, server.name, status, out)
			}
		}
	}
}

// watched does something, and looks meanwhile whether the token is among the
// arguments or in the environment of any process.
func (s *story) watched(server *host, do func()) {
	s.Helper()
	// What is looked for is in files, or else the watcher would find itself.
	server.write("/run/watch", `while [ ! -e /run/enough ]; do
	grep -lasF -f /root/token /proc/[0-9]*/cmdline /proc/[0-9]*/environ >>/run/seen
	grep -lasF brokers/sample_app.toml /proc/[0-9]*/cmdline >>/run/looks
done
`, 0o644)
	server.sh(`sh /run/watch >/dev/null 2>&1 </dev/null &`)
	do()
	server.sh("touch /run/enough; sleep 0.2")
	if seen := strings.TrimSpace(server.sh("cat /run/seen")); seen != "" {
		s.Errorf("on %s the token is in %s", server.name, seen)
	}
	looks := strings.Count(server.sh("cat /run/looks"), "\n")
	s.Logf("%d looks at processes of the broker", looks)
	if looks == 0 {
		s.Error("nobody has looked while the broker ran")
	}
}
