package doctor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"bluegreen/internal/command"
)

// What a clock may be off by before it is said.
const (
	slightlyOff = 5 * time.Second
	badlyOff    = time.Minute
)

// clock compares this machine's clock with the API's. TLS, the age of locks and
// the order of the history rest on it.
func (x *exam) clock(ctx context.Context) []Finding {
	c := x.env.Config.Promotion
	a, err := x.glance(ctx, http.MethodHead, c.APIURL, http.ProxyFromEnvironment)
	if err != nil || a.date.IsZero() {
		var other error
		if a, other = x.glance(ctx, http.MethodGet, idURL(c.MetadataURL), nil); err == nil {
			err = other
		}
	}
	if a.date.IsZero() {
		if err == nil {
			err = errors.New("answers have no date")
		}
		return []Finding{warning("timedatectl status", "the clock could not be compared with anybody's: %v", err)}
	}
	mend := x.asRoot("systemctl", "restart", "systemd-timesyncd")
	text := fmt.Sprintf("the clock is off by %s, says %s", a.off.Round(time.Second), a.from)
	switch off := a.off.Abs(); {
	case off > badlyOff:
		return []Finding{broken(mend, "%s", text)}
	case off > slightlyOff:
		return []Finding{warning(mend, "%s", text)}
	}
	return ok("the clock agrees with %s", a.from)
}

func idURL(metadata string) string { return strings.TrimRight(metadata, "/") + "/metadata/v1/id" }

// metadata asks the droplet that this runs on which one it is.
func (x *exam) metadata(ctx context.Context) []Finding {
	c := x.env.Config.Promotion
	edit := x.edit()
	a, err := x.glance(ctx, http.MethodGet, idURL(c.MetadataURL), nil)
	if err == nil && a.status != http.StatusOK {
		err = fmt.Errorf("status %d", a.status)
	}
	if err != nil {
		return []Finding{warning(command.Line([]string{"curl", "-sS", idURL(c.MetadataURL)}),
			"the droplet's metadata does not answer: %v; who is live takes longer to tell, and only the API can", err)}
	}
	if id := strings.TrimSpace(a.body); id != x.dropletID() {
		return []Finding{broken(edit, "this is droplet %.40q, and promotion.droplets says that %s is %s: a promotion would move %s to another machine",
			id, x.env.Name, x.dropletID(), c.IP)}
	}
	if _, err := x.env.Promotion.Holds(ctx); err != nil {
		return []Finding{warning(command.Line([]string{"curl", "-sS", strings.TrimSuffix(idURL(c.MetadataURL), "id")}), "the droplet's metadata does not tell whether it has %s: %v", c.IP, err)}
	}
	return ok("the droplet's metadata answers; this is droplet %s", x.dropletID())
}

// A look is what came of one request.
type look struct {
	status int
	body   string
	from   string        // the host that answered
	date   time.Time     // of its clock; zero where it does not say
	off    time.Duration // of our clock, beyond what the request itself explains
}

// maxBody is the most that is read of one answer, in bytes.
const maxBody = 1 << 10

// glance makes one request, without a token, and follows no redirect.
func (x *exam) glance(ctx context.Context, method, address string, proxy func(*http.Request) (*url.URL, error)) (look, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, 5*time.Second, errors.New("no complete answer within 5s"))
	defer cancel()
	transport := &http.Transport{Proxy: proxy, DialContext: new(net.Dialer).DialContext, DisableKeepAlives: true, DisableCompression: true, MaxResponseHeaderBytes: 64 << 10}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, method, address, nil)
	if err != nil {
		return look{}, err
	}
	sent := x.Host.Now()
	resp, err := transport.RoundTrip(req)
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return look{}, err
	}
	defer resp.Body.Close()
	came := x.Host.Now()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if err != nil {
		return look{}, err
	}
	l := look{status: resp.StatusCode, body: string(body), from: req.URL.Host}
	if date, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
		l.date = date
		// The date is cut to a second, and from some moment of the request.
		switch earliest, latest := date, date.Add(time.Second); {
		case came.Before(earliest):
			l.off = came.Sub(earliest)
		case sent.After(latest):
			l.off = sent.Sub(latest)
		}
	}
	return l, nil
}
