package terraform_test

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"os"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/ext/tryfunc"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
	"github.com/zclconf/go-cty/cty/function/stdlib"
)

// functions are those of Terraform's that the configuration calls.
func functions() map[string]function.Function {
	return map[string]function.Function{
		"base64encode": text(func(s string) (string, error) { return base64.StdEncoding.EncodeToString([]byte(s)), nil }),
		"can":          tryfunc.CanFunc,
		"file": text(func(path string) (string, error) {
			content, err := os.ReadFile(path)
			return string(content), err
		}),
		"join":   stdlib.JoinFunc,
		"length": stdlib.LengthFunc,
		"regex":  stdlib.RegexFunc,
		"sha256": text(func(s string) (string, error) {
			sum := sha256.Sum256([]byte(s))
			return hex.EncodeToString(sum[:]), nil
		}),
		"templatefile": templateFile(),
		"toset":        stdlib.MakeToFunc(cty.Set(cty.DynamicPseudoType)),
		"trimspace":    stdlib.TrimSpaceFunc,
	}
}

// text is a function of one string.
func text(f func(string) (string, error)) function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{{Name: "text", Type: cty.String}},
		Type:   function.StaticReturnType(cty.String),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			s, err := f(args[0].AsString())
			return cty.StringVal(s), err
		},
	})
}

// templateFile fills a file in. Unlike Terraform's it also wants each value to
// be used.
func templateFile() function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{{Name: "path", Type: cty.String}, {Name: "values", Type: cty.DynamicPseudoType}},
		Type:   function.StaticReturnType(cty.String),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			path, values := args[0].AsString(), args[1].AsValueMap()
			content, err := os.ReadFile(path)
			if err != nil {
				return cty.NilVal, err
			}
			template, diags := hclsyntax.ParseTemplate(content, path, hcl.InitialPos)
			if diags.HasErrors() {
				return cty.NilVal, diags
			}
			used := map[string]bool{}
			for _, reference := range template.Variables() {
				used[reference.RootName()] = true
			}
			for name := range values {
				if !used[name] {
					return cty.NilVal, fmt.Errorf("%s has no place for %s", path, name)
				}
			}
			v, diags := template.Value(&hcl.EvalContext{Variables: values})
			if diags.HasErrors() {
				return cty.NilVal, diags
			}
			return v, nil
		},
	})
}
