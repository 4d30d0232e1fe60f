package inflate

import (
	"bytes"
	"compress/flate"
	"compress/zlib"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"testing"
)

// contents are what the tests compress: of each kind that makes other blocks.
func contents(t testing.TB) map[string][]byte {
	source, err := os.ReadFile("inflate.go")
	if err != nil {
		t.Fatal(err)
	}
	random := make([]byte, 100_000)
	rng := rand.NewChaCha8([32]byte{})
	rng.Read(random)
	skewed := make([]byte, 0, 200_000) // codes of up to 15 bits
	for symbol, times := 0, 1; len(skewed) < 150_000; symbol, times = symbol+1, times*2 {
		skewed = append(skewed, bytes.Repeat([]byte{byte(symbol)}, times)...)
	}
	r := rand.New(rand.NewPCG(1, 2))
	r.Shuffle(len(skewed), func(i, j int) { skewed[i], skewed[j] = skewed[j], skewed[i] })
	return map[string][]byte{
		"nothing":     {},
		"a byte":      {'a'},
		"one symbol":  bytes.Repeat([]byte{'a'}, 70_000),
		"three bytes": bytes.Repeat([]byte("abc"), 500),
		"source":      source,
		"far back":    append(append(bytes.Clone(random[:32_000]), source...), random[:32_000]...),
		"random":      random,
		"skewed":      skewed,
	}
}

func compressed(t testing.TB, content []byte, level int) []byte {
	var b bytes.Buffer
	w, err := zlib.NewWriterLevel(&b, level)
	if err != nil {
		t.Fatal(err)
	}
	w.Write(content)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestZlib(t *testing.T) {
	d := NewDecoder() // one for all: nothing of the one before is left in it
	for name, content := range contents(t) {
		for level := zlib.HuffmanOnly; level <= zlib.BestCompression; level++ {
			in := append(compressed(t, content, level), "what comes behind"...)
			out := make([]byte, len(content))
			if err := d.Zlib(out, in); err != nil {
				t.Fatalf("%s at level %d: %v", name, level, err)
			}
			if !bytes.Equal(out, content) {
				t.Fatalf("%s at level %d has other contents", name, level)
			}
		}
	}
}

func TestZlibOfAnotherSize(t *testing.T) {
	d := NewDecoder()
	for name, content := range contents(t) {
		in := compressed(t, content, 6)
		if err := d.Zlib(make([]byte, len(content)+1), in); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s as a byte more: %v", name, err)
		}
		if len(content) == 0 {
			continue
		}
		if err := d.Zlib(make([]byte, len(content)-1), in); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s as a byte less: %v", name, err)
		}
	}
}

// What is cut short must be told from what is damaged: there may be more of it.
func TestZlibCutShort(t *testing.T) {
	d := NewDecoder()
	for name, content := range contents(t) {
		for _, level := range []int{zlib.HuffmanOnly, zlib.NoCompression, zlib.DefaultCompression} {
			in := compressed(t, content, level)
			out := make([]byte, len(content))
			for n := 0; n < len(in); n += 1 + len(in)/500 {
				if err := d.Zlib(out, in[:n]); !errors.Is(err, ErrShort) {
					t.Fatalf("%d of %d bytes of %s at level %d: %v", n, len(in), name, level, err)
				}
			}
		}
	}
}

func TestZlibDamaged(t *testing.T) {
	d := NewDecoder()
	content := contents(t)["source"]
	in := compressed(t, content, 6)
	out := make([]byte, len(content))
	for i := range in {
		in[i] ^= 1 << (i % 8)
		// a match may be found at two distances
		if err := d.Zlib(out, in); err == nil && !bytes.Equal(out, content) {
			t.Fatalf("byte %d of %d is another one, and nothing is said", i, len(in))
		}
		in[i] ^= 1 << (i % 8)
	}
	if err := d.Zlib(out, in); err != nil || !bytes.Equal(out, content) {
		t.Fatalf("after damaged ones: %v", err)
	}
}

// The standard library is the oracle: what it takes is taken, with the same
// result, and what it refuses is refused.
func FuzzDeflate(f *testing.F) {
	for _, content := range contents(f) {
		for _, level := range []int{zlib.HuffmanOnly, zlib.NoCompression, zlib.BestSpeed, zlib.BestCompression} {
			in := compressed(f, content[:min(len(content), 5000)], level)
			f.Add(in[2 : len(in)-4])
		}
	}
	f.Add([]byte{0x4b, 0x04, 0x00})       // a fixed block
	f.Add([]byte{0x63, 0x00, 0x02, 0x00}) // a match that begins before the data
	const limit = 1 << 20
	f.Fuzz(func(t *testing.T, in []byte) {
		from := bytes.NewReader(in)
		want, wrong := io.ReadAll(io.LimitReader(flate.NewReader(from), limit))
		if len(want) == limit {
			t.Skip("long")
		}
		out := make([]byte, len(want))
		n, err := NewDecoder().Deflate(out, in)
		switch {
		case (err == nil) != (wrong == nil):
			t.Fatalf("%v, where compress/flate says %v", err, wrong)
		case err == nil && !bytes.Equal(out, want):
			t.Fatal("the contents are not those of compress/flate")
		case err == nil && n != len(in)-from.Len():
			t.Fatalf("%d bytes are used up, and %d by compress/flate", n, len(in)-from.Len())
		}
	})
}

func BenchmarkZlib(b *testing.B) {
	content := contents(b)["source"]
	in := compressed(b, content, 6)
	out := make([]byte, len(content))
	b.Run("inflate", func(b *testing.B) {
		b.SetBytes(int64(len(content)))
		d := NewDecoder()
		for b.Loop() {
			if err := d.Zlib(out, in); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("compress/zlib", func(b *testing.B) {
		b.SetBytes(int64(len(content)))
		source := bytes.NewReader(in)
		r, err := zlib.NewReader(source)
		if err != nil {
			b.Fatal(err)
		}
		for b.Loop() {
			source.Reset(in)
			if err := r.(zlib.Resetter).Reset(source, nil); err != nil {
				b.Fatal(err)
			}
			if _, err := io.ReadFull(r, out); err != nil {
				b.Fatal(err)
			}
		}
	})
}
