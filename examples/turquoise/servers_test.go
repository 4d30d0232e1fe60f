//go:build e2e

package turquoise_test

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// serve starts a server that ends with the test, whatever becomes of that. as is the
// account, "" for that of the test. It returns false where the server has ended before
// it was ready.
func (w *world) serve(as string, env []string, end syscall.Signal, ready func() bool, argv ...string) bool {
	w.Helper()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir, cmd.Env = w.dir, append([]string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C", "TZ=UTC"}, env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: end}
	if as != "" {
		cmd.SysProcAttr.Credential = w.credential(as)
	}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	started, ended := make(chan error), make(chan struct{})
	go func() {
		runtime.LockOSThread() // whose end is what Pdeathsig waits for
		started <- cmd.Start()
		cmd.Wait()
		close(ended)
	}()
	must(w, <-started)
	w.Cleanup(func() {
		syscall.Kill(-cmd.Process.Pid, end) // what it has started, too
		select {
		case <-ended:
		case <-time.After(10 * time.Second):
			syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
			<-ended
			w.Errorf("%v did not end", cmd)
		}
		if w.Failed() {
			w.Logf("%v:\n%s", cmd, &out)
		}
	})
	up := false
	w.until(argv[0]+" is ready", func() bool {
		select {
		case <-ended:
			return true
		default:
			up = ready()
			return up
		}
	})
	return up
}

func (w *world) credential(name string) *syscall.Credential {
	w.Helper()
	account, err := user.Lookup(name)
	must(w, err)
	uid, err := strconv.Atoi(account.Uid)
	must(w, err)
	gid, err := strconv.Atoi(account.Gid)
	must(w, err)
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
}

// startPostgres makes a database cluster, and starts it on a socket in the test's
// directory. It refuses to be root's.
func (w *world) startPostgres() {
	w.Helper()
	const pattern = "/usr/lib/postgresql/*/bin/postgres"
	needs(w, pattern, "postgresql php-pgsql")
	found, err := filepath.Glob(pattern)
	must(w, err)
	bin, as := filepath.Dir(found[len(found)-1]), ""
	data := w.path("postgres")
	must(w, os.Mkdir(data, 0o700))
	initdb := w.command(w.dir, filepath.Join(bin, "initdb"), "--no-sync", "-U", "guestbook", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "-D", data)
	if os.Geteuid() == 0 {
		as = "postgres"
		c := w.credential(as)
		must(w, os.Chown(data, int(c.Uid), int(c.Gid)))
		initdb.SysProcAttr = &syscall.SysProcAttr{Credential: c}
	}
	if out, err := initdb.CombinedOutput(); err != nil {
		w.Fatalf("%v: %v\n%s", initdb, err, out)
	}
	answers := func() bool {
		return exec.Command(filepath.Join(bin, "pg_isready"), "-q", "-h", data).Run() == nil
	}
	if !w.serve(as, nil, syscall.SIGINT, answers, filepath.Join(bin, "postgres"), "-D", data, "-k", data, "-h", "", "-F") {
		w.Fatal("postgres does not start")
	}
	must(w, os.Chmod(data, 0o711)) // Apache's children look for the socket here
	w.database = "pgsql:host=" + data + ";user=guestbook;dbname=postgres"
}

// startApaches starts an Apache for each environment. None of it is the system's.
func (w *world) startApaches() {
	w.Helper()
	const module = "/usr/lib/apache2/modules/libphp*.so"
	needs(w, "/usr/sbin/apache2", "apache2")
	needs(w, module, "libapache2-mod-php")
	php, err := filepath.Glob(module)
	must(w, err)
	for _, environment := range environments {
		w.site(environment, func(address string) bool {
			dir := environment + "-apache"
			must(w, os.MkdirAll(w.path(dir), 0o755))
			w.write(dir+"/apache.conf", w.apache(environment, address, php[len(php)-1]))
			return w.serve("", nil, syscall.SIGTERM, connects(address), "/usr/sbin/apache2", "-D", "FOREGROUND", "-f", w.path(dir+"/apache.conf"))
		})
		w.logs = append(w.logs, w.path(environment+"-apache/error.log"))
	}
}

// apache is what Debian's configuration comes to, with the setting of the example.
func (w *world) apache(environment, address, php string) string {
	w.Helper()
	account := ""
	if os.Geteuid() == 0 {
		account = "User www-data\nGroup www-data\n"
	}
	setting := ""
	for line := range strings.Lines(w.read("90-guestbook.ini")) {
		if name, value, found := strings.Cut(line, " = "); found && !strings.HasPrefix(line, ";") {
			setting += fmt.Sprintf("php_admin_value %s %s\n", name, strings.TrimSpace(value))
		}
	}
	text := ""
	for _, module := range []string{"mpm_prefork", "authz_core", "dir", "mime", "env"} {
		text += fmt.Sprintf("LoadModule %s_module /usr/lib/apache2/modules/mod_%s.so\n", module, module)
	}
	return text + fmt.Sprintf(`LoadModule php_module %[1]s
%[2]s%[3]sServerName localhost
Listen %[4]s
DefaultRuntimeDir %[5]s
PidFile %[5]s/apache.pid
ErrorLog %[5]s/error.log
StartServers 2
MinSpareServers 2
MaxRequestWorkers 10
TypesConfig /etc/mime.types
DocumentRoot %[6]s
DirectoryIndex index.php
SetEnv GUESTBOOK_INI %[7]s
<FilesMatch \.php$>
SetHandler application/x-httpd-php
</FilesMatch>
`, php, account, setting, address, w.path(environment+"-apache"), w.path(environment), w.path("guestbook.ini"))
}

// startPHPs starts PHP's own web server for each environment.
func (w *world) startPHPs() {
	w.Helper()
	for _, environment := range environments {
		log := w.path(environment + "-php.log")
		w.site(environment, func(address string) bool {
			w.write(environment+"-php.log", "")
			return w.serve("", []string{"GUESTBOOK_INI=" + w.path("guestbook.ini"), "PHP_CLI_SERVER_WORKERS=4"}, syscall.SIGTERM, connects(address),
				"/usr/bin/php", "-q", "-d", "display_errors=0", "-d", "log_errors=1", "-d", "error_log="+log, "-S", address, "-t", w.path(environment))
		})
		w.logs = append(w.logs, log)
	}
}

// site starts a web server on a port that was free a moment before.
func (w *world) site(environment string, start func(address string) bool) {
	w.Helper()
	for range 5 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		must(w, err)
		w.sites[environment] = l.Addr().String()
		l.Close()
		if start(w.sites[environment]) {
			return
		}
	}
	w.Fatalf("no web server starts for %s", environment)
}

func connects(address string) func() bool {
	return func() bool {
		conn, err := net.DialTimeout("tcp", address, time.Second)
		if err == nil {
			conn.Close()
		}
		return err == nil
	}
}
