package digitalocean

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/digitalocean/godo"
)

// A failure is a request that got no good answer. It wraps nothing that holds
// foreign text.
type failure struct {
	text    string        // one printable line without the token
	status  int           // of the answer; 0 where there was none, or only a part of it
	passing bool          // another attempt may do better
	pause   time.Duration // that the server asks for; 0 for none
	cause   error         // the end of the caller's context, or nil
}

func (f *failure) Error() string { return f.text }

func (f *failure) Unwrap() error { return f.cause }

// statusOf returns the status of the answer that err reports, 0 for none.
func statusOf(err error) int {
	if f := (*failure)(nil); errors.As(err, &f) {
		return f.status
	}
	return 0
}

// failed explains what godo returned. err itself is not kept, nor is its text
// used where there was an answer: it has the url and not the API's id.
func (p *Provider) failed(ctx context.Context, what string, resp *godo.Response, err error) *failure {
	f := &failure{cause: ctx.Err(), passing: ctx.Err() == nil}
	if resp != nil && resp.StatusCode/100 != 2 {
		p.refused(f, resp.Response)
		f.text = what + ": " + f.text
		return f
	}
	if request := (*url.Error)(nil); errors.As(err, &request) {
		err = request.Err
		f.passing = f.passing && !errors.Is(err, errTooLong)
	} else if resp == nil {
		err = fmt.Errorf("an answer that cannot be read: %w", err)
	}
	f.text = what + ": " + p.token.clean(err.Error(), maxError)
	return f
}

// refused explains an answer that is not 2xx.
func (p *Provider) refused(f *failure, resp *http.Response) {
	f.status = resp.StatusCode
	f.text = p.reason(resp)
	f.passing = f.passing && f.status >= 500
	switch f.status {
	case http.StatusUnauthorized:
		f.text += " (the token is wrong, expired or revoked)"
	case http.StatusForbidden:
		f.text += " (the token needs the scope reserved_ip:update)"
	case http.StatusTooManyRequests:
		f.passing = f.cause == nil
		if f.pause = requestedPause(resp.Header, time.Now()); f.pause > 0 {
			f.text += fmt.Sprintf(" (the API asks to wait %s)", f.pause)
		}
	}
}

// reason is the status and what the body, or the address of a redirect, adds.
func (p *Provider) reason(resp *http.Response) string {
	answer, ok := resp.Body.(*refusal)
	if !ok {
		return strconv.Itoa(resp.StatusCode)
	}
	if answer.location != "" && resp.StatusCode/100 == 3 {
		to := answer.location
		if u, err := resp.Request.URL.Parse(to); err == nil {
			to = u.Host // the rest of it may hold anything
		}
		return fmt.Sprintf("%d, a redirect to %s, which is not followed", resp.StatusCode, p.token.quote(to))
	}
	var body struct {
		ID        string `json:"id"`
		Message   string `json:"message"`
		RequestID string `json:"request_id"`
	}
	switch err := json.Unmarshal(answer.body, &body); {
	case len(bytes.TrimSpace(answer.body)) == 0:
		return fmt.Sprintf("%d with an empty body", resp.StatusCode)
	case err != nil && !json.Valid(answer.body):
		return fmt.Sprintf("%d with a body that is not JSON", resp.StatusCode)
	case body.Message == "" && body.ID == "":
		return fmt.Sprintf("%d without a reason", resp.StatusCode)
	}
	text := fmt.Sprintf("%d: %s", resp.StatusCode, p.token.clean(cmp.Or(body.Message, body.ID), maxMessage))
	if resp.StatusCode >= 500 && body.RequestID != "" {
		text += fmt.Sprintf(" (request %s)", p.token.clean(body.RequestID, maxMessage))
	}
	return text
}

// requestedPause returns how long an answer of 429 asks to wait, 0 where it
// does not say, or what it says is over.
func requestedPause(h http.Header, now time.Time) time.Duration {
	const most = 24 * time.Hour
	if after := h.Get("Retry-After"); after != "" {
		if seconds, err := strconv.ParseUint(after, 10, 64); err == nil {
			return time.Duration(min(seconds, uint64(most/time.Second))) * time.Second
		}
		if date, err := http.ParseTime(after); err == nil {
			return min(max(date.Sub(now), 0), most).Round(time.Second)
		}
	}
	// The reset is the hour's. Where some of the hour is left, it was the limit
	// for a minute that was hit.
	if left := h.Get("Ratelimit-Remaining"); left != "" && left != "0" {
		return 0
	}
	reset, err := strconv.ParseInt(h.Get("Ratelimit-Reset"), 10, 64)
	if err != nil {
		return 0
	}
	if reset <= now.Unix() {
		return 0
	}
	return time.Duration(min(reset-now.Unix(), int64(most/time.Second))) * time.Second
}
