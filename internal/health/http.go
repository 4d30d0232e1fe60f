package health

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// maxBody and maxHeader are the most that is read of one answer, in bytes.
const (
	maxBody   = 64 << 10
	maxHeader = 64 << 10
)

// A page is an HTTP check about one release.
type page struct {
	Check
	contains []byte // "" for anything
	file     []byte // what the body must begin with, where there is a BodyFile; at most maxBody
	size     int64  // of all of that file
}

func (c Check) newPage(ctx context.Context, s Subject) (probe, error) {
	p := &page{Check: c}
	p.contains = []byte(strings.NewReplacer(
		"{commit}", s.Commit, "{short}", s.Short, "{environment}", s.Environment, "{tag}", s.Tag,
	).Replace(c.Body))
	if c.BodyFile != "" {
		ctx, cancel := context.WithTimeout(ctx, c.Within)
		defer cancel()
		var err error
		if p.file, p.size, err = s.File(ctx, c.BodyFile, maxBody); err != nil {
			return nil, fmt.Errorf("reading %q as committed: %w", c.BodyFile, err)
		}
	}
	return p.get, nil
}

// transport makes the connection of one attempt: an answer must come from the
// server as it is now, and no connection outlives its attempt.
func (c Check) transport(d *dialer) *http.Transport {
	host := url.URL{Host: c.Host}
	only := new(http.Protocols)
	only.SetHTTP1(true)
	return &http.Transport{
		Proxy:                  nil,
		DialContext:            d.dial,
		TLSClientConfig:        &tls.Config{ServerName: host.Hostname()},
		DisableKeepAlives:      true,
		DisableCompression:     true,
		MaxResponseHeaderBytes: maxHeader,
		Protocols:              only,
	}
}

// get makes one request. It uses the transport itself: a client would follow
// redirects, or fail over those that it cannot read.
func (p *page) get(ctx context.Context) answer {
	d := &dialer{address: p.Address}
	transport := p.transport(d)
	defer transport.CloseIdleConnections() // ends a dial that nobody waits for
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.URL, nil)
	if err != nil {
		return answer{text: failure(ctx, err)}
	}
	req.Host = p.Host
	req.Header.Set("User-Agent", "bluegreen")
	for name, value := range p.Headers {
		req.Header.Set(name, value)
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		text := failure(ctx, err)
		return answer{text: text, unreachable: d.unreachable(ctx)}
	}
	defer resp.Body.Close()
	// After 101 the body is the connection, which knows no context.
	defer context.AfterFunc(ctx, func() { resp.Body.Close() })()
	return p.judge(ctx, resp)
}

// judge reads no more of an answer than it needs.
func (p *page) judge(ctx context.Context, resp *http.Response) answer {
	status := fmt.Sprintf("status %d", resp.StatusCode)
	location := resp.Header.Get("Location")
	redirects := location != "" && resp.StatusCode/100 == 3
	if redirects {
		status += ", redirects to " + excerpt([]byte(location))
	}
	if !p.expected(resp.StatusCode) {
		if redirects {
			return answer{answered: true, text: status} // the body says no more
		}
		// A body that fails to come changes nothing.
		if body, _ := read(resp.Body, maxExcerpt+1, nil); len(body) > 0 {
			status += ", body " + excerpt(bytes.TrimSuffix(body, []byte("\n")))
		}
		return answer{answered: true, text: status}
	}
	limit, enough := p.wanted()
	body, err := read(resp.Body, limit, enough)
	if err != nil {
		return answer{answered: true, text: fmt.Sprintf("%s, body %s cut off: %s", status, excerpt(body), failure(ctx, err))}
	}
	if wrong := p.compare(body, resp.ContentLength); wrong != "" {
		return answer{answered: true, other: true, text: fmt.Sprintf("%s, body %s %s", status, excerpt(body), wrong)}
	}
	return answer{answered: true, healthy: true, text: status}
}

func (p *page) expected(status int) bool {
	if len(p.Status) == 0 {
		return status/100 == 2
	}
	return slices.Contains(p.Status, status)
}

// wanted tells how much of the body is needed: up to limit bytes, or until
// enough, if that is not empty, has been seen.
func (p *page) wanted() (limit int, enough []byte) {
	switch {
	case p.BodyRegexp != nil:
		return maxBody, nil // "$" is the end
	case p.BodyFile != "" && len(p.contains) > 0:
		return maxBody, nil
	case p.BodyFile != "":
		return int(min(p.size+1, maxBody)), nil
	case len(p.contains) > 0:
		return maxBody, p.contains
	}
	return 0, nil
}

// compare tells what is wrong with a body, or "". length is what the server
// says that its length is, -1 where it does not.
func (p *page) compare(body []byte, length int64) string {
	if !bytes.Contains(body, p.contains) {
		return "does not contain " + excerpt(p.contains)
	}
	if p.BodyRegexp != nil && !p.BodyRegexp.Match(body) {
		return "does not match " + printable(p.BodyRegexp.String())
	}
	if p.BodyFile == "" {
		return ""
	}
	for i := range min(len(body), len(p.file)) {
		if body[i] != p.file[i] {
			return fmt.Sprintf("differs from %q as committed, first at byte %d", p.BodyFile, i+1)
		}
	}
	if len(body) != len(p.file) || length >= 0 && length != p.size {
		return fmt.Sprintf("is not as long as %q as committed, %d bytes", p.BodyFile, p.size)
	}
	return ""
}

// read reads up to limit bytes of a body, or until it has seen enough, if that
// is not empty. A body that is shorter is no error.
func read(body io.Reader, limit int, enough []byte) ([]byte, error) {
	buf := make([]byte, 0, limit)
	for len(buf) < limit {
		n, err := body.Read(buf[len(buf):limit])
		// Only what is new is searched: it may come byte by byte.
		news := buf[max(0, len(buf)-len(enough)) : len(buf)+n]
		buf = buf[:len(buf)+n]
		if len(enough) > 0 && bytes.Contains(news, enough) || err == io.EOF {
			return buf, nil
		}
		if err != nil {
			return buf, err
		}
	}
	return buf, nil
}
