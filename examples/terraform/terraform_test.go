package terraform_test

import (
	"encoding/base64"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclparse"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/hashicorp/hcl/v2/hclwrite"
	"github.com/zclconf/go-cty/cty"
)

// TestFormat: "terraform fmt" has nothing to change.
func TestFormat(t *testing.T) {
	t.Parallel()
	c := read(t)
	for name, file := range c.files {
		if string(hclwrite.Format(file.Bytes)) != string(file.Bytes) {
			t.Errorf("terraform fmt would change %s", name)
		}
	}
}

// TestUsed: each variable and local is used. That each one that is used is
// declared, the evaluation shows.
func TestUsed(t *testing.T) {
	t.Parallel()
	c, _ := evaluated(t)
	used := map[string]bool{}
	for _, file := range c.files {
		hclsyntax.VisitAll(file.Body.(*hclsyntax.Body), func(n hclsyntax.Node) hcl.Diagnostics {
			if e, ok := n.(*hclsyntax.ScopeTraversalExpr); ok && len(e.Traversal) > 1 {
				if a, ok := e.Traversal[1].(hcl.TraverseAttr); ok {
					used[e.Traversal.RootName()+"."+a.Name] = true
				}
			}
			return nil
		})
	}
	for _, kind := range []string{"var", "local"} {
		for name := range c.context.Variables[kind].AsValueMap() {
			if !used[kind+"."+name] {
				t.Errorf("%s.%s is declared, and not used", kind, name)
			}
		}
	}
}

// TestSettings: the provider is pinned, and gets its token.
func TestSettings(t *testing.T) {
	t.Parallel()
	c, _ := evaluated(t)
	var s settings
	var p providerSettings
	c.decode(c.blocks.OfType("terraform")[0].Body, nil, &s)
	c.decode(c.blocks.OfType("provider")[0].Body, c.context, &p)
	if d := s.Providers.DigitalOcean; d.Source != "digitalocean/digitalocean" || !strings.HasPrefix(d.Version, "~> 2.") {
		t.Errorf("the provider is %+v", d)
	}
	if s.RequiredVersion != ">= 1.9" || p.Token != "dop_v1_all" {
		t.Errorf("Terraform %s, the provider's token %q", s.RequiredVersion, p.Token)
	}
	for name, v := range c.variables {
		if v.Sensitive != strings.HasSuffix(name, "_token") {
			t.Errorf("%s: sensitive is %t", name, v.Sensitive)
		}
	}
}

// TestVariables: what would fail later, or do harm, is refused before anything
// is made.
func TestVariables(t *testing.T) {
	t.Parallel()
	for name, values := range map[string][]cty.Value{
		"promotion_token": {cty.StringVal(""), cty.StringVal("dop_v1_all")},
		"ssh_keys":        {cty.EmptyTupleVal},
		"pushers":         {cty.EmptyTupleVal},
		"package_url": {cty.StringVal("http://downloads.example.com/a.deb"), cty.StringVal(""), cty.StringVal(`https://a/"b`),
			cty.StringVal("https://a/'b"), cty.StringVal("https://a/$b"), cty.StringVal("https://a/b c"), cty.StringVal("https://a/b\nc"), cty.StringVal(`https://a/b\`)},
		"package_sha256": {cty.StringVal(""), cty.StringVal(strings.Repeat("0a", 31)), cty.StringVal(strings.Repeat("0G", 32)), cty.StringVal(strings.Repeat("0a", 32) + "\n")},
	} {
		for _, value := range values {
			c, all := read(t), given(t)
			all[name] = value
			if err := c.set(all); err == nil {
				t.Errorf("%s = %#v is taken", name, value)
			}
		}
	}
}

// TestExampleValues: the example gives values to variables that there are, and
// good ones; what it leaves out has a default, or is a token.
func TestExampleValues(t *testing.T) {
	t.Parallel()
	c, all := read(t), given(t)
	file, diags := hclparse.NewParser().ParseHCLFile("terraform.tfvars.example")
	c.check(diags)
	if string(hclwrite.Format(file.Bytes)) != string(file.Bytes) {
		t.Error("terraform fmt would change the example")
	}
	attributes, diags := file.Body.JustAttributes()
	c.check(diags)
	for name, a := range attributes {
		if _, declared := c.variables[name]; !declared {
			t.Errorf("there is no variable %s", name)
		}
		if name != "pushers" { // whose files are not here
			all[name] = c.value(a.Expr, nil)
		}
	}
	if err := c.set(all); err != nil {
		t.Error(err)
	}
	for name, v := range c.variables {
		if _, given := attributes[name]; !given && c.value(v.Default, nil).IsNull() && !v.Sensitive {
			t.Errorf("the example leaves %s out", name)
		}
	}
}

// TestAddress: Terraform makes the address, and never says whose it is.
func TestAddress(t *testing.T) {
	t.Parallel()
	c, p := evaluated(t)
	if p.address.DropletID != nil || p.address.IPAddress != nil || p.address.Region != "fra1" {
		t.Errorf("the reserved IP is %+v", p.address)
	}
	kinds := map[string]int{}
	for _, b := range c.blocks.OfType("resource") {
		kinds[b.Labels[0]]++
	}
	want := map[string]int{"digitalocean_reserved_ip": 1, "digitalocean_droplet": 1, "digitalocean_firewall": 1, "terraform_data": 1}
	if !maps.Equal(kinds, want) {
		t.Errorf("the resources are %v, want %v", kinds, want)
	}
}

// TestDroplets: two in the address's region, that differ by name, and are not
// replaced for what only their first boot reads.
func TestDroplets(t *testing.T) {
	t.Parallel()
	_, p := evaluated(t)
	if names := slices.Sorted(maps.Keys(p.droplets)); !slices.Equal(names, []string{"blue", "green"}) {
		t.Fatalf("the droplets are %q", names)
	}
	for name, d := range p.droplets {
		if d.Name != name || *d.Region != p.address.Region || d.Image != "debian-12-x64" || len(d.SSHKeys) != 2 || d.SSHKeys[0] != "512189" {
			t.Errorf("%s is %+v", name, d)
		}
		var ignored []string
		list, diags := hcl.ExprList(d.Lifecycle.IgnoreChanges)
		for _, e := range list {
			ignored = append(ignored, hcl.ExprAsKeyword(e))
		}
		if diags.HasErrors() || !slices.Equal(ignored, []string{"image", "ssh_keys", "user_data"}) {
			t.Errorf("%s: changes of %q are ignored, %v", name, ignored, diags)
		}
	}
}

// TestUserData: it is the cloud-init example's file with its four blanks filled
// in, and without a token.
func TestUserData(t *testing.T) {
	t.Parallel()
	_, p := evaluated(t)
	shipped, err := os.ReadFile("../cloud-init/user-data.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for name, d := range p.droplets {
		want := strings.NewReplacer("${environment}", name,
			"${package_url}", "https://downloads.example.com/bluegreen_0.1.0_amd64.deb?a=1&b=2",
			"${package_sha256}", strings.Repeat("0a", 32),
			"${keys}", base64.StdEncoding.EncodeToString([]byte(key("ann")+"\n"+key("bob")+"\n"))).Replace(string(shipped))
		if *d.UserData != want || strings.Contains(want, "${") {
			t.Errorf("%s's user-data is\n%s", name, *d.UserData)
		}
		if strings.Contains(*d.UserData, "dop_v1") {
			t.Errorf("%s's user-data has a token", name)
		}
	}
}

// TestFirewall: ssh, the web and ping come in to both droplets; all goes out.
func TestFirewall(t *testing.T) {
	t.Parallel()
	c, all := read(t), given(t)
	all["ssh_from"] = cty.TupleVal([]cty.Value{cty.StringVal("198.51.100.0/24")})
	if err := c.set(all); err != nil {
		t.Fatal(err)
	}
	f := c.plan().firewall
	if !slices.Equal(f.DropletIDs, []int{3164494, 3164495}) {
		t.Errorf("it is for the droplets %d", f.DropletIDs)
	}
	rule := func(protocol string, ports *string, addresses []string) string {
		if ports == nil {
			ports = new(string)
		}
		return fmt.Sprintln(protocol, *ports, addresses)
	}
	var in, out string
	for _, r := range f.Inbound {
		in += rule(r.Protocol, r.PortRange, r.Addresses)
	}
	for _, r := range f.Outbound {
		out += rule(r.Protocol, r.PortRange, r.Addresses)
	}
	const world = " [0.0.0.0/0 ::/0]\n"
	if want := "tcp 22 [198.51.100.0/24]\ntcp 80" + world + "tcp 443" + world + "icmp " + world; in != want {
		t.Errorf("in comes\n%s, want\n%s", in, want)
	}
	if want := "tcp 1-65535" + world + "udp 1-65535" + world + "icmp " + world; out != want {
		t.Errorf("out goes\n%s, want\n%s", out, want)
	}
}

// TestOutputs: what is printed can be typed.
func TestOutputs(t *testing.T) {
	t.Parallel()
	_, p := evaluated(t)
	want := map[string]string{
		"production": production,
		"remotes":    "git remote add blue deploy@198.51.100.1:sample_app\ngit remote add green deploy@198.51.100.2:sample_app",
	}
	if !maps.Equal(p.outputs, want) {
		t.Errorf("the outputs are %q, want %q", p.outputs, want)
	}
}

// TestTriggers: the servers are set up again for whatever the set-up is told,
// and no token is stored for it.
func TestTriggers(t *testing.T) {
	t.Parallel()
	_, p := evaluated(t)
	before := fmt.Sprintf("%#v", p.triggers)
	if strings.Contains(before, "dop_v1") {
		t.Errorf("the state has a token: %s", before)
	}
	pushers := given(t)["pushers"].AsValueSlice()
	for name, value := range map[string]cty.Value{
		"promotion_token": cty.StringVal("dop_v1_exchanged"),
		"pushers":         cty.TupleVal(pushers[:1]),
		"package_sha256":  cty.StringVal(strings.Repeat("0b", 32)),
	} {
		c, all := read(t), given(t)
		all[name] = value
		if err := c.set(all); err != nil {
			t.Fatal(err)
		}
		if fmt.Sprintf("%#v", c.plan().triggers) == before {
			t.Errorf("another %s does not reach the servers", name)
		}
	}
	for _, told := range []string{production, "3164494", "3164495"} {
		if !strings.Contains(before, strconv.Quote(told)) {
			t.Errorf("another one in the place of %s does not reach the servers: %s", told, before)
		}
	}
}
