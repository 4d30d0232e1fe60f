package simulator

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"sync"
	"time"
)

// A Forwarder is an IP that can be connected to: it takes each new connection
// to the droplet that owns the IP at that moment. Where nobody does, or the
// backend does not answer, the connection is reset. A connection that is
// established stays with its backend when the IP moves; the real cloud promises
// nothing of the kind.
type Forwarder struct {
	cloud    *Cloud
	ip       string
	backends map[int]string
	listener net.Listener
	running  sync.WaitGroup
	stopped  context.Context
	stop     context.CancelFunc

	mu         sync.Mutex
	down, hang bool
	conns      map[net.Conn]bool // open on either side
}

// Forward opens a port on 127.0.0.1 that stands for the IP. backends tells what
// to connect to for each droplet, as "host:port".
func (c *Cloud) Forward(ip string, backends map[int]string) (*Forwarder, error) {
	c.Owner(ip) // there is one, or this panics here and not in a goroutine
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("forwarding %s: %w", ip, err)
	}
	f := &Forwarder{cloud: c, ip: ip, backends: maps.Clone(backends), listener: l, conns: make(map[net.Conn]bool)}
	f.stopped, f.stop = context.WithCancel(context.Background())
	f.running.Go(f.accept)
	return f, nil
}

// Addr is the address to connect to, as "127.0.0.1:port".
func (f *Forwarder) Addr() string { return f.listener.Addr().String() }

// SetDown makes the IP unreachable: established connections are reset, and so is
// each new one.
func (f *Forwarder) SetDown(down bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.down = down
	if down {
		f.abortAll()
	}
}

// SetHang makes new connections be accepted and never answered. One that was
// accepted so stays so.
func (f *Forwarder) SetHang(hang bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hang = hang
}

// Close resets all connections and waits until nothing is left of them.
func (f *Forwarder) Close() {
	f.stop()
	f.listener.Close()
	f.SetDown(true)
	f.running.Wait()
}

func (f *Forwarder) abortAll() {
	for conn := range f.conns {
		abort(conn)
	}
}

func (f *Forwarder) accept() {
	for {
		conn, err := f.listener.Accept()
		if err != nil {
			return
		}
		f.running.Go(func() { f.forward(conn) })
	}
}

// forward serves one connection until both sides are done with it.
func (f *Forwarder) forward(client net.Conn) {
	hang, ok := f.open(client)
	if !ok {
		return
	}
	defer f.close(client)
	if hang {
		io.Copy(io.Discard, client)
		return
	}
	address, ok := f.backends[f.cloud.Owner(f.ip)]
	if !ok {
		abort(client)
		return
	}
	dialer := net.Dialer{Timeout: 5 * time.Second}
	backend, err := dialer.DialContext(f.stopped, "tcp", address)
	if err != nil {
		abort(client)
		return
	}
	if _, ok := f.open(backend); !ok {
		abort(client)
		return
	}
	defer f.close(backend)
	var back sync.WaitGroup
	back.Go(func() { transfer(client, backend) })
	transfer(backend, client)
	back.Wait()
}

// transfer copies one direction, and its end.
func transfer(to, from net.Conn) {
	if _, err := io.Copy(to, from); err != nil {
		abort(from)
		abort(to)
		return
	}
	if tcp, ok := to.(*net.TCPConn); ok {
		tcp.CloseWrite()
	}
}

// open keeps a connection for SetDown and Close; while the IP is down there are
// none.
func (f *Forwarder) open(conn net.Conn) (hang, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.down {
		abort(conn)
		return false, false
	}
	f.conns[conn] = true
	return f.hang, true
}

func (f *Forwarder) close(conn net.Conn) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.conns, conn)
	conn.Close()
}
