package gittest

import (
	"bytes"
	"compress/zlib"
	"crypto/sha1"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
)

// A Pack collects objects of any content, also such as git would neither write
// nor send, as a push brings them.
type Pack struct {
	testing.TB
	count   uint32
	objects bytes.Buffer
}

// The types of objects, as packs have them.
var packed = map[string]byte{"commit": 1, "tree": 2, "blob": 3, "tag": 4}

// Add adds an object and returns its name.
func (p *Pack) Add(kind, data string) string {
	p.count++
	// The type and the lowest four bits of the size, then seven bits a byte.
	b, rest := packed[kind]<<4|byte(len(data)&15), len(data)>>4
	for ; rest > 0; rest >>= 7 {
		p.objects.WriteByte(b | 0x80)
		b = byte(rest & 0x7f)
	}
	p.objects.WriteByte(b)
	z := zlib.NewWriter(&p.objects)
	z.Write([]byte(data))
	must(p, z.Close())
	return ObjectName(kind, data)
}

// ObjectName is what git calls an object.
func ObjectName(kind, data string) string {
	h := sha1.New()
	fmt.Fprintf(h, "%s %d\x00%s", kind, len(data), data)
	return fmt.Sprintf("%x", h.Sum(nil))
}

// Tree adds a tree of exactly these entries, in this order: mode, name, object,
// mode, name, object.
func (p *Pack) Tree(entries ...string) string {
	var data strings.Builder
	for i := 0; i < len(entries); i += 3 {
		data.WriteString(entries[i] + " " + entries[i+1] + "\x00" + unhex(p, entries[i+2]))
	}
	return p.Add("tree", data.String())
}

// Commit adds a commit of a tree, whose parents may be none.
func (p *Pack) Commit(tree string, parents ...string) string {
	text := "tree " + tree + "\n"
	for _, parent := range parents {
		text += "parent " + parent + "\n"
	}
	const who = "T <t@example.com> 1700000000 +0000\n"
	return p.Add("commit", text+"author "+who+"committer "+who+"\nby hand\n")
}

// Bytes is the pack.
func (p *Pack) Bytes() []byte {
	all := binary.BigEndian.AppendUint32([]byte("PACK\x00\x00\x00\x02"), p.count)
	all = append(all, p.objects.Bytes()...)
	sum := sha1.Sum(all)
	return append(all, sum[:]...)
}
