package lock

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// A Named lock is held on a name, which no other process of this machine can
// have meanwhile, of whatever account. It is an abstract unix socket: no file,
// and so no permissions that would keep accounts apart, and nothing to clean
// up. Any account can hold any name, also to be in the way.
//
// Abstract sockets belong to a network namespace: a container with a network
// of its own, or a unit with PrivateNetwork=, is another machine.
type Named struct{ socket *os.File }

// AcquireName takes the lock of a name, waiting up to wait; a lock that stays
// taken gives a *Busy. The name says what its holder does, as in "promotion of
// 203.0.113.10": that is what the error says. The order of waiters is not kept.
// waiting, which may be nil, is called once, when the name is found taken.
func AcquireName(ctx context.Context, name string, wait time.Duration, waiting func(*Busy)) (*Named, error) {
	address := &unix.SockaddrUnix{Name: socketName(name)}
	start := time.Now()
	// A child that this process starts has the socket until it runs its
	// program: a name that was released a moment ago may still be taken.
	deadline := start.Add(max(wait, 50*time.Millisecond))
	n := &Named{}
	err := poll(ctx, deadline,
		func() (taken bool, err error) {
			n.socket, err = bind(address)
			switch {
			case errors.Is(err, unix.EADDRINUSE):
				return true, nil
			case err != nil:
				return false, fmt.Errorf("locking the name %q: %w", name, err)
			}
			return false, nil
		},
		func() *Busy { return &Busy{PID: listener(address), What: name} },
		waiting)
	if err != nil {
		return nil, waited(err, wait, start)
	}
	return n, nil
}

// Release frees the name.
func (n *Named) Release() { n.socket.Close() }

// maxName is up to how many bytes a name is part of the socket's name, which
// has 107.
const maxName = 80

// socketName returns where the lock of a name is, for people who look at
// /proc/net/unix: there names end at the first byte that does not print.
func socketName(name string) string {
	readable := len(name) <= maxName
	for i := range len(name) {
		readable = readable && name[i] >= ' ' && name[i] <= '~'
	}
	if !readable {
		name = fmt.Sprintf("%x", sha256.Sum256([]byte(name)))
	}
	return "\x00bluegreen-" + name
}

// bind takes the name, and listens so that others can ask who has it.
func bind(address *unix.SockaddrUnix) (*os.File, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	// Nobody accepts: each who asks stays in the queue, as long as the kernel
	// allows, and with a full one who asks learns nothing.
	if err = unix.Bind(fd, address); err == nil {
		err = unix.Listen(fd, unix.SOMAXCONN)
	}
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), "lock"), nil
}

// listener returns the process that has the name, 0 where it does not tell. It
// never waits.
func listener(address *unix.SockaddrUnix) int {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0
	}
	defer unix.Close(fd)
	if unix.Connect(fd, address) != nil {
		return 0
	}
	holder, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return 0
	}
	return int(holder.Pid)
}
