package health

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"syscall"
)

// A dialer makes the connection of one attempt and remembers how far it came:
// an attempt whose time is over learns only that, from an HTTP transport.
type dialer struct {
	address string // as in Check

	// unanswered tells that a connection was asked for and nothing came back.
	unanswered atomic.Bool
}

// dial connects to the dialer's address or, without one, to target.
func (d *dialer) dial(ctx context.Context, network, target string) (net.Conn, error) {
	// The control function is called when a name has been resolved.
	plain := net.Dialer{ControlContext: func(context.Context, string, string, syscall.RawConn) error {
		d.unanswered.Store(true)
		return nil
	}}
	conn, err := plain.DialContext(ctx, network, place(d.address, target))
	d.unanswered.Store(unanswered(err))
	return conn, err
}

// unreachable tells, once the attempt of ctx has failed, whether it got no
// answer to its wish to connect. Who was told to stop knows nothing.
func (d *dialer) unreachable(ctx context.Context) bool {
	return d.unanswered.Load() && !errors.Is(ctx.Err(), context.Canceled)
}

// unanswered tells whether a dial failed for want of an answer.
func unanswered(err error) bool {
	if errors.Is(err, syscall.EHOSTUNREACH) || errors.Is(err, syscall.ENETUNREACH) {
		return true
	}
	var resolving *net.DNSError
	var dialing net.Error
	return errors.As(err, &dialing) && dialing.Timeout() && !errors.As(err, &resolving)
}

// place returns where to connect: to address, with target's port where it has
// none, or to target.
func place(address, target string) string {
	if address == "" {
		return target
	}
	host, port, err := net.SplitHostPort(address)
	if err == nil && port != "" {
		return address
	}
	if err != nil { // no port, or an IPv6 address without brackets
		host = strings.TrimSuffix(strings.TrimPrefix(address, "["), "]")
	}
	_, port, err = net.SplitHostPort(target)
	if err != nil {
		return target // which names no port: the dial tells what is wrong with it
	}
	return net.JoinHostPort(host, port)
}
