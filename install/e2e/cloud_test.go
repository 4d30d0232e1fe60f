//go:build e2e

package e2e_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"bluegreen/internal/simulator"
)

const (
	blueDroplet  = 3164494
	greenDroplet = 3164495
	// token is the API's. It must appear nowhere.
	token = "dop_v1_canary0123456789abcdef"
	// moving is how long DigitalOcean takes to move an IP here.
	moving = 500 * time.Millisecond
)

// A cloud is DigitalOcean: its API at its real name, each droplet's metadata at
// its real address, and the network in which the reserved IP moves.
type cloud struct {
	testing.TB
	*simulator.Cloud
	authority string // the certificate of the API, which hosts have to trust
	anchors   map[int]string
	oneWay    atomic.Bool // a droplet cannot reach the IP that it has itself
}

// newCloud makes a cloud with two droplets, and a reserved IP that nobody has.
func newCloud(t testing.TB) *cloud {
	t.Helper()
	c := &cloud{
		// What is played in a minute takes days elsewhere: the limit of a minute
		// is not to end it.
		TB: t, Cloud: simulator.New(simulator.Options{Token: token, Delay: moving, Limit: 1 << 20}),
		anchors: map[int]string{blueDroplet: blueAnchor, greenDroplet: greenAnchor},
	}
	c.AddDroplet(blueDroplet, "blue", "fra1")
	c.AddDroplet(greenDroplet, "green", "fra1")
	c.AddIP(reservedIP, "fra1", 0)
	api := c.certify(apiName)
	c.serve(apiIP+":443", &tls.Config{Certificates: []tls.Certificate{api}}, c.Handler())
	droplets := map[string]http.Handler{bluePublic: c.Metadata(blueDroplet), greenPublic: c.Metadata(greenDroplet)}
	c.serve(metadataIP+":80", nil, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asking, _, _ := net.SplitHostPort(r.RemoteAddr)
		if h := droplets[asking]; h != nil {
			h.ServeHTTP(w, r)
			return
		}
		http.NotFound(w, r)
	}))
	c.moveTraffic()
	return c
}

// certify makes a certificate that vouches for itself.
func (c *cloud) certify(name string) tls.Certificate {
	c.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(c, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	must(c, err)
	c.authority = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func (c *cloud) serve(address string, secure *tls.Config, h http.Handler) {
	c.Helper()
	l, err := net.Listen("tcp", address)
	must(c, err)
	if secure != nil {
		l = tls.NewListener(l, secure)
	}
	server := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, ErrorLog: log.New(io.Discard, "", 0)}
	var serving sync.WaitGroup
	serving.Go(func() { server.Serve(l) })
	c.Cleanup(func() {
		server.Close()
		serving.Wait()
	})
}

// moveTraffic has the network follow the IP's owner, a moment after the API
// tells of it.
func (c *cloud) moveTraffic() {
	c.Helper()
	type path struct {
		anchor string
		back   bool
	}
	follow := func(last path) path {
		now := path{c.anchors[c.Owner(reservedIP)], !c.oneWay.Load()}
		if now != last {
			if err := route(now.anchor, now.back); err != nil {
				c.Error(err)
			}
		}
		return now
	}
	last := follow(path{})
	ctx, cancel := context.WithCancel(context.Background())
	var following sync.WaitGroup
	following.Go(func() {
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				last = follow(last)
			}
		}
	})
	c.Cleanup(func() {
		cancel()
		following.Wait()
	})
}

// owner is the name of the droplet that has the IP.
func (c *cloud) owner() string {
	return map[int]string{blueDroplet: "blue", greenDroplet: "green"}[c.Owner(reservedIP)]
}
