// Package peer asks another environment what it serves: its marker says so.
package peer

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"bluegreen/internal/git"
	"bluegreen/internal/schema"
)

const (
	// within bounds one question, in all.
	within = 5 * time.Second
	// maxBody is the most that is read of an answer, in bytes.
	maxBody = 64 << 10
)

// A Peer is another environment, and where its marker can be read.
type Peer struct {
	Name string
	URL  string // http or https
}

// A Release is what an environment says that it serves.
type Release struct {
	Commit     git.OID
	DeployedAt time.Time
	Tag        string // that it was promoted with, short; "" for none
	// WorksWith is nil where the marker does not say: a release without a
	// manifest, or deployed before there was one.
	WorksWith *schema.Range
}

// Read asks the peer what it serves. Redirects are not followed: another place
// could say anything of anything.
func (p *Peer) Read(ctx context.Context) (*Release, error) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	body, err := p.get(ctx)
	if err == nil {
		var r *Release
		if r, err = p.parse(body); err == nil {
			return r, nil
		}
	}
	return nil, fmt.Errorf("asking %s what it serves, at %q: %w", p.Name, p.URL, err)
}

func (p *Peer) get(ctx context.Context) ([]byte, error) {
	transport := &http.Transport{DisableKeepAlives: true, DisableCompression: true, MaxResponseHeaderBytes: maxBody,
		TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12}}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.URL, nil)
	if err != nil {
		return nil, errors.New("not a url that can be asked")
	}
	req.Header.Set("User-Agent", "bluegreen")
	req.Header.Set("Cache-Control", "no-cache")
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return nil, reason(ctx, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("status %d", resp.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody+1))
	if err != nil {
		return nil, reason(ctx, err)
	}
	if len(body) > maxBody {
		return nil, fmt.Errorf("the answer is longer than %d KiB", maxBody>>10)
	}
	return body, nil
}

// reason is why there is no answer.
func reason(ctx context.Context, err error) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fmt.Errorf("no answer within %s", within)
	}
	return err
}

// parse reads a marker. Fields that are not known are left alone: the other
// server may have a newer version.
func (p *Peer) parse(body []byte) (*Release, error) {
	var marker struct {
		Commit      string    `json:"commit"`
		Environment string    `json:"environment"`
		DeployedAt  time.Time `json:"deployed_at"`
		Tag         string    `json:"tag"`
		WorksWith   *string   `json:"works_with"`
	}
	if err := json.Unmarshal(body, &marker); err != nil {
		return nil, errors.New("the answer is not a marker: is deploy.marker set there, and the url that of the file?")
	}
	if marker.Environment != p.Name {
		return nil, fmt.Errorf("it says that it is %s", strconv.Quote(marker.Environment[:min(len(marker.Environment), 100)]))
	}
	commit, err := git.ParseOID(marker.Commit)
	if err != nil {
		return nil, err
	}
	r := &Release{Commit: commit, DeployedAt: marker.DeployedAt, Tag: marker.Tag}
	if marker.WorksWith != nil {
		works, err := schema.ParseRange(*marker.WorksWith)
		if err != nil {
			return nil, fmt.Errorf("works_with: %w", err)
		}
		r.WorksWith = &works
	}
	return r, nil
}
