package digitalocean

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"bluegreen/internal/version"
)

// maxBody and maxHeader are the most that is read of one answer, in bytes.
const (
	maxBody   = 64 << 10
	maxHeader = 64 << 10
)

const userAgent = "bluegreen/" + version.Number

var errTooLong = fmt.Errorf("an answer of more than %d bytes", maxBody)

// newHTTPClient returns the client for godo.
func newHTTPClient(base *url.URL, t *token, attempt time.Duration) *http.Client {
	only := new(http.Protocols)
	only.SetHTTP1(true)
	return &http.Client{
		Transport: &exchange{
			base: base, token: t, attempt: attempt,
			connect: &http.Transport{
				Proxy:       http.ProxyFromEnvironment,
				DialContext: new(net.Dialer).DialContext,
				// A request that fails on a connection that was used before is
				// sent again by net/http, and by HTTP/2 in more cases.
				DisableKeepAlives:      true,
				Protocols:              only,
				DisableCompression:     true, // of an answer, few bytes could become many
				MaxResponseHeaderBytes: maxHeader,
			},
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// An exchange sends a request once and reads the whole answer, all within one
// deadline.
type exchange struct {
	base    *url.URL
	token   *token
	attempt time.Duration
	connect http.RoundTripper
}

// RoundTrip implements http.RoundTripper. The answer's body is in memory.
func (e *exchange) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithTimeoutCause(req.Context(), e.attempt, fmt.Errorf("no complete answer within %s", e.attempt))
	defer cancel()
	req = req.Clone(ctx)
	if req.URL.Scheme == e.base.Scheme && req.URL.Host == e.base.Host {
		secret, err := e.token.get()
		if err != nil {
			if req.Body != nil {
				req.Body.Close()
			}
			return nil, err
		}
		req.Header.Set("Authorization", "Bearer "+secret)
	}
	resp, err := e.connect.RoundTrip(req)
	if err != nil {
		return nil, ended(ctx, err)
	}
	defer resp.Body.Close()
	// After 101 the body is the connection, which knows no context.
	defer context.AfterFunc(ctx, func() { resp.Body.Close() })()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody+1))
	if err != nil {
		return nil, fmt.Errorf("an answer of %d, cut off: %w", resp.StatusCode, ended(ctx, err))
	}
	if len(body) > maxBody {
		return nil, errTooLong
	}
	kept := *resp
	kept.ContentLength = int64(len(body))
	kept.Body = io.NopCloser(bytes.NewReader(body))
	if resp.StatusCode/100 != 2 {
		kept.Body = &refusal{body: body, location: resp.Header.Get("Location")}
		kept.Header.Del("Location") // nobody follows what nobody sees
	}
	return &kept, nil
}

// ended returns why the context ended, if it did, else err.
func ended(ctx context.Context, err error) error {
	// A dial ends by a timer of its own, which may be a moment ahead.
	if deadline, ok := ctx.Deadline(); ok && !time.Now().Before(deadline) {
		<-ctx.Done()
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// A refusal is the body of an answer that is not 2xx. It reads as empty: godo
// would decode it into a struct that holds the *http.Response itself, so that
// {"Response":{"Body":null}} makes it panic.
type refusal struct {
	body     []byte
	location string // where it redirects to
}

func (*refusal) Read([]byte) (int, error) { return 0, io.EOF }
func (*refusal) Close() error             { return nil }
