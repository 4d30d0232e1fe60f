package inflate

import "math/bits"

// The bits of a code that are looked up at once. Longer codes, which are rare,
// take a second look: their entries are in the space behind.
const (
	literalBits   = 10
	literalSpace  = 1024
	distanceBits  = 8
	distanceSpace = 512
	lengthBits    = 7 // of all
)

const (
	maxBits      = 15 // of a code
	maxLiterals  = 288
	maxDistances = 32
)

// An entry tells what the next bits stand for: how many of them are the code
// (5 bits) and extra ones after it (5 bits), what kind of symbol it is, and in the
// upper half the literal, or what the extra bits are added to. The zero entry is
// of bits that stand for nothing.
type entry uint32

const (
	literal    entry = 1 << 10
	endOfBlock entry = 1 << 11
	further    entry = 1 << 12 // value is where the entries of the longer codes begin, extra how many bits they look at
)

func newEntry(value, extra int) entry { return entry(value<<16 | extra<<5) }

// bits returns the size of the code.
func (e entry) bits() uint { return uint(e & 31) }

// all returns the size of the code with the bits after it.
func (e entry) all() uint { return uint(e&31 + e>>5&31) }

// value returns what the bits stand for that the code is at the beginning of.
func (e entry) value(bits uint64) uint {
	return uint(e>>16) + uint(bits>>(e&31))&(1<<(e>>5&31)-1)
}

// next returns where the entry is for the bits behind those looked at.
func (e entry) next(bits uint64) uint {
	return uint(e>>16) + uint(bits)&(1<<(e>>5&31)-1)
}

// fits returns an error for bits that stand for nothing, or that are not there.
func (e entry) fits(n uint) error {
	switch {
	case e == 0:
		return ErrDamaged
	case e.all() > n:
		return ErrShort
	}
	return nil
}

// literalEntries returns the entry of each literal and length, without its code.
func literalEntries() []entry {
	entries := make([]entry, maxLiterals) // the last two stand for nothing
	for i := range 256 {
		entries[i] = newEntry(i, 0) | literal
	}
	entries[256] = endOfBlock
	base := 3
	for i := range 28 {
		extra := max(i/4-1, 0)
		entries[257+i] = newEntry(base, extra)
		base += 1 << extra
	}
	entries[285] = newEntry(258, 0)
	return entries
}

// distanceEntries returns the entry of each distance, without its code.
func distanceEntries() []entry {
	entries := make([]entry, maxDistances) // the last two stand for nothing
	base := 1
	for i := range 30 {
		extra := max(i/2-1, 0)
		entries[i] = newEntry(base, extra)
		base += 1 << extra
	}
	return entries
}

// A table finds the symbol of a code.
type table struct {
	entries []entry
	bits    int     // looked up at once
	symbols []entry // by number, without the code
}

func newTable(bits, space int, symbols []entry) table {
	return table{make([]entry, 1<<bits+space), bits, symbols}
}

// build makes the table for codes of the given sizes, one for each symbol; 0 is
// none. Codes are given to the symbols in order of size, then of number. They
// stand in the input from their highest bit on, so they count up mirrored here.
func (t *table) build(sizes []uint8, sorted *[maxLiterals]uint16) error {
	count, used, err := bySize(sizes, sorted)
	if err != nil {
		return err
	}
	if used < 2 { // the only code that leaves bits without a meaning
		return t.buildOne(count[1], sorted[0])
	}
	code, end := 0, 1 // the entries up to end are made
	next := sorted[:used]
	for size := 1; size <= t.bits; size++ {
		copy(t.entries[end:2*end], t.entries[:end]) // whatever the new bit is
		end *= 2
		for _, symbol := range next[:count[size]] {
			t.entries[code] = t.symbols[symbol] | entry(size)
			code = countUp(code, size)
		}
		next = next[count[size]:]
	}
	return t.buildLong(code, next, &count)
}

// bySize sorts the symbols that have a code by its size, and counts them.
func bySize(sizes []uint8, sorted *[maxLiterals]uint16) (count [maxBits + 1]int, used int, err error) {
	for _, size := range sizes {
		count[size]++
	}
	used = len(sizes) - count[0]
	count[0] = 0
	var at [maxBits + 2]int
	left := 1 // codes of the size
	for size := 1; size <= maxBits; size++ {
		if left = 2*left - count[size]; left < 0 {
			return count, 0, ErrDamaged
		}
		at[size+1] = at[size] + count[size]
	}
	if left > 0 && (used > 1 || used == 1 && count[1] == 0) {
		return count, 0, ErrDamaged
	}
	for symbol, size := range sizes {
		if size > 0 {
			sorted[at[size]] = uint16(symbol)
			at[size]++
		}
	}
	return count, used, nil
}

// buildOne makes the table of one code of one bit, 0, or of none at all.
func (t *table) buildOne(used int, symbol uint16) error {
	clear(t.entries[:1<<t.bits])
	if used == 0 {
		return nil
	}
	for i := 0; i < 1<<t.bits; i += 2 {
		t.entries[i] = t.symbols[symbol] | 1
	}
	return nil
}

// buildLong makes the entries of the codes that are longer than what is looked
// up at once: a table for each beginning that they have in common.
func (t *table) buildLong(code int, next []uint16, count *[maxBits + 1]int) error {
	size := t.bits
	begin, end := 0, 1<<t.bits // of the table that is made
	prefix := -1
	for left := 0; len(next) > 0; left-- {
		for left == 0 {
			size++
			left = count[size]
		}
		if p := code & (1<<t.bits - 1); p != prefix {
			prefix = p
			more := size - t.bits // bits, so that all with this beginning have room
			for room := left; room < 1<<more; room = 2*room + count[t.bits+more] {
				more++
			}
			begin, end = end, end+1<<more
			if end > len(t.entries) {
				return ErrDamaged
			}
			t.entries[prefix] = newEntry(begin, more) | further
		}
		for i := begin + code>>t.bits; i < end; i += 1 << (size - t.bits) {
			t.entries[i] = t.symbols[next[0]] | entry(size)
		}
		next = next[1:]
		code = countUp(code, size)
	}
	return nil
}

// countUp adds one to a mirrored number of that many bits: the ones at its end
// go, and the zero before them becomes one. After the last one comes zero.
func countUp(code, size int) int {
	zeros := code ^ (1<<size - 1)
	if zeros == 0 {
		return 0
	}
	bit := 1 << (bits.Len(uint(zeros)) - 1)
	return code&(bit-1) | bit
}
