package health

import (
	"context"
	"errors"
	"os/exec"
	"time"

	"bluegreen/internal/command"
)

// probe returns what makes one attempt of the check.
func (c Check) probe(ctx context.Context, s Subject) (probe, error) {
	switch {
	case c.URL != "":
		return c.newPage(ctx, s)
	case c.TCP != "":
		return c.connect, nil
	case len(c.Command) > 0:
		return func(ctx context.Context) answer { return c.execute(ctx, s) }, nil
	}
	return nil, errors.New("the check asks nothing: it has no url, tcp or command")
}

// connect makes and ends a TCP connection.
func (c Check) connect(ctx context.Context) answer {
	d := &dialer{address: c.Address}
	conn, err := d.dial(ctx, "tcp", c.TCP)
	if err != nil {
		text := failure(ctx, err)
		return answer{text: text, unreachable: d.unreachable(ctx)}
	}
	conn.Close()
	return answer{healthy: true, text: "connected"}
}

// execute runs the command once.
func (c Check) execute(ctx context.Context, s Subject) answer {
	out, err := command.Run(ctx, command.Command{Argv: c.Command, Env: s.Env, Dir: s.Dir}, nil)
	if err == nil {
		return answer{healthy: true, text: "exit status 0", lines: out.Tail}
	}
	// The check's name says which command: its outcome does.
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		err = exit
	}
	text := failure(ctx, err)
	if last := out.Last(); last != "" {
		text += ": " + excerpt([]byte(last))
	}
	return answer{text: text, lines: out.Tail}
}

// failure tells why an attempt failed: that its time was over, or err.
func failure(ctx context.Context, err error) string {
	// A dial ends by a timer of its own, which may be a moment ahead.
	if deadline, ok := ctx.Deadline(); ok && !time.Now().Before(deadline) {
		<-ctx.Done()
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return printable(err.Error())
}
