// Package terraform_test reads the configuration as Terraform would, without
// Terraform, the provider or a cloud: each expression is evaluated, each
// argument must be one that the provider knows, and what would run on the
// servers runs here.
package terraform_test

import (
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/ext/dynblock"
	"github.com/hashicorp/hcl/v2/ext/typeexpr"
	"github.com/hashicorp/hcl/v2/gohcl"
	"github.com/hashicorp/hcl/v2/hclparse"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
)

// A configuration is all that the files say.
type configuration struct {
	testing.TB
	files     map[string]*hcl.File
	blocks    hcl.Blocks
	variables map[string]variable
	context   *hcl.EvalContext
}

// read reads the files, and checks that each block is one that Terraform knows.
func read(t testing.TB) *configuration {
	t.Helper()
	c := &configuration{TB: t, variables: map[string]variable{}}
	names, err := filepath.Glob("*.tf")
	if err != nil || len(names) == 0 {
		t.Fatal(names, err)
	}
	parser := hclparse.NewParser()
	var files []*hcl.File
	for _, name := range names {
		file, diags := parser.ParseHCLFile(name)
		c.check(diags)
		files = append(files, file)
	}
	c.files = parser.Files()
	content, diags := hcl.MergeFiles(files).Content(&hcl.BodySchema{Blocks: []hcl.BlockHeaderSchema{
		{Type: "terraform"}, {Type: "locals"}, {Type: "provider", LabelNames: []string{"name"}},
		{Type: "variable", LabelNames: []string{"name"}}, {Type: "output", LabelNames: []string{"name"}},
		{Type: "resource", LabelNames: []string{"type", "name"}},
	}})
	c.check(diags)
	c.blocks = content.Blocks
	for _, b := range c.blocks.OfType("variable") {
		var v variable
		c.check(gohcl.DecodeBody(b.Body, nil, &v))
		c.variables[b.Labels[0]] = v
	}
	return c
}

func (c *configuration) check(diags hcl.Diagnostics) {
	c.Helper()
	if diags.HasErrors() {
		c.Fatal(diags.Error())
	}
}

// set gives the variables their values, or their defaults, and computes the
// locals. Values that Terraform would refuse are an error.
func (c *configuration) set(values map[string]cty.Value) error {
	all := map[string]cty.Value{}
	for name, v := range c.variables {
		kind, diags := typeexpr.TypeConstraint(v.Type)
		c.check(diags)
		value, given := values[name]
		if !given {
			value, diags = v.Default.Value(nil)
			c.check(diags)
		}
		var err error
		if all[name], err = convert.Convert(value, kind); err != nil {
			return err
		}
	}
	c.context = &hcl.EvalContext{Functions: functions(), Variables: map[string]cty.Value{
		"var": cty.ObjectVal(all), "path": cty.ObjectVal(map[string]cty.Value{"module": cty.StringVal(".")}),
	}}
	for _, v := range c.variables {
		for _, rule := range v.Validations {
			ok, diags := rule.Condition.Value(c.context)
			c.check(diags)
			if ok.False() {
				return errors.New(rule.Message)
			}
		}
	}
	locals := map[string]cty.Value{}
	for _, b := range c.blocks.OfType("locals") {
		attributes, diags := b.Body.JustAttributes()
		c.check(diags)
		for name, a := range attributes { // none refers to another one
			locals[name] = c.value(a.Expr, c.context)
		}
	}
	c.context.Variables["local"] = cty.ObjectVal(locals)
	return nil
}

func (c *configuration) value(e hcl.Expression, in *hcl.EvalContext) cty.Value {
	c.Helper()
	v, diags := e.Value(in)
	c.check(diags)
	return v
}

// one returns the body of the only resource of a kind.
func (c *configuration) one(kind, name string) hcl.Body {
	c.Helper()
	var found []hcl.Body
	for _, b := range c.blocks.OfType("resource") {
		if b.Labels[0] == kind {
			found = append(found, b.Body)
			if b.Labels[1] != name {
				c.Fatalf("there is a %s %q", kind, b.Labels[1])
			}
		}
	}
	if len(found) != 1 {
		c.Fatalf("there are %d resources %s", len(found), kind)
	}
	return found[0]
}

// decode reads a body into the arguments that it may have.
func (c *configuration) decode(body hcl.Body, in *hcl.EvalContext, into any) {
	c.Helper()
	c.check(gohcl.DecodeBody(dynblock.Expand(body, in), in, into))
}

// made says what is known of a resource once it has been made.
func (c *configuration) made(kind, name string, attributes cty.Value) {
	c.context.Variables[kind] = cty.ObjectVal(map[string]cty.Value{name: attributes})
}

// each is the context of one of several resources.
func (c *configuration) each(key string, value cty.Value) *hcl.EvalContext {
	in := c.context.NewChild()
	in.Variables = map[string]cty.Value{"each": cty.ObjectVal(map[string]cty.Value{"key": cty.StringVal(key), "value": value})}
	return in
}

// A plan is what Terraform would make.
type plan struct {
	address   reservedIP
	droplets  map[string]droplet
	firewall  firewall
	promotion map[string]terraformData
	triggers  cty.Value
	outputs   map[string]string
}

const production = "203.0.113.10"

// droplets are what the API would say of them.
func droplets() map[string]cty.Value {
	of := func(id, address string) cty.Value {
		return cty.ObjectVal(map[string]cty.Value{"id": cty.StringVal(id), "ipv4_address": cty.StringVal(address)})
	}
	return map[string]cty.Value{"blue": of("3164494", "198.51.100.1"), "green": of("3164495", "198.51.100.2")}
}

// plan evaluates all resources in the order in which they are made, and the
// outputs.
func (c *configuration) plan() *plan {
	c.Helper()
	p := &plan{droplets: map[string]droplet{}, promotion: map[string]terraformData{}, outputs: map[string]string{}}
	c.decode(c.one("digitalocean_reserved_ip", "production"), c.context, &p.address)
	c.made("digitalocean_reserved_ip", "production", cty.ObjectVal(map[string]cty.Value{
		"ip_address": cty.StringVal(production), "region": cty.StringVal(p.address.Region),
	}))

	body := c.one("digitalocean_droplet", "environment")
	var several struct {
		ForEach hcl.Expression `hcl:"for_each"`
		Rest    hcl.Body       `hcl:",remain"`
	}
	c.decode(body, c.context, &several)
	for _, value := range c.value(several.ForEach, c.context).AsValueSlice() {
		var d droplet
		c.decode(body, c.each(value.AsString(), value), &d)
		p.droplets[value.AsString()] = d
	}
	c.made("digitalocean_droplet", "environment", cty.ObjectVal(droplets()))
	c.decode(c.one("digitalocean_firewall", "web"), c.context, &p.firewall)

	body = c.one("terraform_data", "promotion")
	c.decode(body, c.context, &several)
	for key, value := range c.value(several.ForEach, c.context).AsValueMap() {
		var d terraformData
		c.decode(body, c.each(key, value), &d)
		p.promotion[key] = d
		p.triggers = c.value(d.Triggers, c.each(key, value))
	}
	for _, b := range c.blocks.OfType("output") {
		var o output
		c.decode(b.Body, c.context, &o)
		p.outputs[b.Labels[0]] = o.Value
	}
	return p
}

// given are values of an operator's.
func given(t testing.TB) map[string]cty.Value {
	t.Helper()
	dir := t.TempDir()
	var files []cty.Value
	for _, name := range []string{"ann", "bob"} {
		path := filepath.Join(dir, name+".pub")
		if err := os.WriteFile(path, []byte(key(name)+"\n\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		files = append(files, cty.StringVal(path))
	}
	return map[string]cty.Value{
		"digitalocean_token": cty.StringVal("dop_v1_all"),
		"promotion_token":    cty.StringVal("dop_v1_move"),
		"ssh_keys":           cty.TupleVal([]cty.Value{cty.NumberIntVal(512189), cty.StringVal("3b:16:bf:e4:8b:00:8b:b8:59:8c:a9:d3:f0:19:45:fa")}),
		"pushers":            cty.TupleVal(files),
		"package_url":        cty.StringVal("https://downloads.example.com/bluegreen_0.1.0_amd64.deb?a=1&b=2"),
		"package_sha256":     cty.StringVal(strings.Repeat("0a", 32)),
	}
}

// key is a public key of the right form, another one for each name.
func key(name string) string {
	blob := append([]byte("\x00\x00\x00\x0bssh-ed25519\x00\x00\x00\x20"), make([]byte, 32)...)
	copy(blob[19:], name)
	return "ssh-ed25519 " + base64.StdEncoding.EncodeToString(blob) + " " + name
}

// evaluated is the configuration with those values.
func evaluated(t testing.TB) (*configuration, *plan) {
	t.Helper()
	c := read(t)
	if err := c.set(given(t)); err != nil {
		t.Fatal(err)
	}
	return c, c.plan()
}
