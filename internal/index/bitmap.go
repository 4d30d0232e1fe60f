package index

import (
	"encoding/binary"
	"fmt"
	"math/bits"
)

// A bitmap is a set of numbers, 64 of them in a word.
type bitmap []uint64

func newBitmap(n int) bitmap { return make(bitmap, (n+63)/64) }

func (b bitmap) set(i int) { b[i/64] |= 1 << (i % 64) }

func (b bitmap) has(i int) bool { return i/64 < len(b) && b[i/64]&(1<<(i%64)) != 0 }

// len returns how many numbers are in the set.
func (b bitmap) len() (n int) {
	for _, word := range b {
		n += bits.OnesCount64(word)
	}
	return n
}

// end returns the first number that is above all in the set.
func (b bitmap) end() int {
	for i := len(b) - 1; i >= 0; i-- {
		if b[i] != 0 {
			return 64*i + bits.Len64(b[i])
		}
	}
	return 0
}

// In a split index bitmaps are compressed as git's ewah does it: a marker says
// how many words are all zeros or all ones, and how many words come after it as
// they are. Its lowest bit tells which, the next 32 are the first number, and
// the rest is the second.
const (
	runBits = 32
	maxRun  = 1<<runBits - 1
)

// maxWords is far above what an index has entries for.
const maxWords = maxIndex / 64

// append adds the compressed form: the number of bits and of words, the words,
// and which one is the last marker.
func (b bitmap) append(data []byte) []byte {
	end := b.end()
	words := b[:(end+63)/64]
	var compressed []uint64
	last := 0
	for first := true; first || len(words) > 0; first = false {
		zeros, literals := 0, 0
		for zeros < len(words) && words[zeros] == 0 {
			zeros++
		}
		words = words[zeros:]
		for literals < len(words) && words[literals] != 0 {
			literals++
		}
		last = len(compressed)
		compressed = append(compressed, uint64(zeros)<<1|uint64(literals)<<(1+runBits))
		compressed = append(compressed, words[:literals]...)
		words = words[literals:]
	}
	data = binary.BigEndian.AppendUint32(data, uint32(end))
	data = binary.BigEndian.AppendUint32(data, uint32(len(compressed)))
	for _, word := range compressed {
		data = binary.BigEndian.AppendUint64(data, word)
	}
	return binary.BigEndian.AppendUint32(data, uint32(last))
}

// parseBitmap reads what append makes, and returns what comes after it.
func parseBitmap(data []byte) (bitmap, []byte, error) {
	if len(data) < 8 {
		return nil, nil, errShort
	}
	n := uint64(binary.BigEndian.Uint32(data[4:]))
	if uint64(len(data)) < 8+8*n+4 {
		return nil, nil, errShort
	}
	words, rest := data[8:8+8*n], data[8+8*n+4:]
	var b bitmap
	for len(words) > 0 {
		marker := binary.BigEndian.Uint64(words)
		words = words[8:]
		run, literals := marker>>1&maxRun, marker>>(1+runBits)
		if run+literals > uint64(maxWords-len(b)) || 8*literals > uint64(len(words)) {
			return nil, nil, fmt.Errorf("bitmap of too many words: %w", errShort)
		}
		for range run {
			b = append(b, -(marker & 1))
		}
		for range literals {
			b = append(b, binary.BigEndian.Uint64(words))
			words = words[8:]
		}
	}
	return b, rest, nil
}
