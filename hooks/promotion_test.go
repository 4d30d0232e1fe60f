package hooks_test

import (
	"strings"
	"testing"
)

// TestPromotion is the tutorial's story: what is pushed to blue is not seen
// from outside before a tag moves the IP there, and going back is the same.
func TestPromotion(t *testing.T) {
	t.Parallel()
	c := newCloud(t, played, "", allHooks...)
	second := c.blue.commit(map[string]string{"index.html": "v2\n"})
	if status, out := c.push(nil, "blue", "master"); status != 0 || c.owner() != "green" {
		t.Fatalf("status %d, %s has the IP\n%s", status, c.owner(), out)
	}
	c.blue.run(c.blue.dev, "git", "tag", "release-2")
	status, out := c.push(nil, "blue", "release-2")
	if status != 0 || c.owner() != "blue" || c.blue.ref("refs/tags/release-2") != second {
		t.Fatalf("status %d, %s has the IP\n%s", status, c.owner(), out)
	}
	t.Log(out)
	if !strings.HasPrefix(lastLine(out), "success: \"release-2\" ("+second[:7]+") is live: 203.0.113.10 moved from green to blue") {
		t.Errorf("the last line is %q", lastLine(out))
	}
}
