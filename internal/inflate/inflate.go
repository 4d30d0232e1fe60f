// Package inflate decompresses zlib and DEFLATE data, RFC 1950 and RFC 1951,
// that lies in memory and whose size is known, as that of git's objects is.
//
// Without a stream to keep up it takes half the time of compress/zlib, and less
// than git's own zlib: several literals are taken between two looks at the input,
// and matches are copied in whole words. The technique is that of libdeflate.
package inflate

import (
	"encoding/binary"
	"errors"
	"hash/adler32"
)

var (
	// ErrDamaged is returned for what is not what a compressor has written, or
	// has another size.
	ErrDamaged = errors.New("compressed data is damaged")

	// ErrShort is returned where the input ends before the data does.
	ErrShort = errors.New("compressed data is cut short")
)

// A Decoder decompresses. It keeps its tables from one call to the next, and is
// for one goroutine.
type Decoder struct {
	literals  table // and lengths, and the end of a block
	distances table
	lengths   table // of the codes in the two others
	fixed     bool  // the tables are those of a block with fixed codes

	sizes  [maxLiterals + maxDistances]uint8 // of the codes, in bits
	sorted [maxLiterals]uint16               // symbols, by the size of their code
}

// NewDecoder returns a decoder.
func NewDecoder() *Decoder {
	d := &Decoder{
		literals:  newTable(literalBits, literalSpace, literalEntries()),
		distances: newTable(distanceBits, distanceSpace, distanceEntries()),
		lengths:   newTable(lengthBits, 0, make([]entry, 19)),
	}
	for i := range d.lengths.symbols {
		d.lengths.symbols[i] = newEntry(i, 0)
	}
	return d
}

// Zlib fills out, exactly, with what the zlib data at the beginning of in
// unpacks to. Its checksum has been compared when the error is nil.
func (d *Decoder) Zlib(out, in []byte) error {
	if len(in) < 2 {
		return ErrShort
	}
	// method 8, a window of at most 32 KiB, no dictionary
	head := binary.BigEndian.Uint16(in)
	if head>>8&15 != 8 || head>>12 > 7 || head%31 != 0 || head&(1<<5) != 0 {
		return ErrDamaged
	}
	n, err := d.Deflate(out, in[2:])
	if err != nil {
		return err
	}
	if in = in[2+n:]; len(in) < 4 {
		return ErrShort
	}
	if binary.BigEndian.Uint32(in) != adler32.Checksum(out) {
		return ErrDamaged
	}
	return nil
}

// Deflate fills out, exactly, with what the DEFLATE data at the beginning of in
// unpacks to, and returns how many bytes of in that took. After an error, out
// holds anything.
func (d *Decoder) Deflate(out, in []byte) (int, error) {
	r := reader{in: in}
	written := 0
	for final := false; !final; {
		head, err := r.take(3)
		if err != nil {
			return 0, err
		}
		final = head&1 == 1
		switch head >> 1 {
		case 0:
			written, err = r.stored(out, written)
		case 1:
			d.setFixed()
			written, err = d.symbols(&r, out, written)
		case 2:
			if err = d.readCodes(&r); err == nil {
				written, err = d.symbols(&r, out, written)
			}
		default:
			err = ErrDamaged
		}
		if err != nil {
			return 0, err
		}
	}
	if written != len(out) {
		return 0, ErrDamaged
	}
	return r.at - int(r.n/8), nil
}

// A reader reads bits, the lowest of a byte first.
type reader struct {
	in   []byte
	at   int    // the byte that comes next
	bits uint64 // what is before it
	n    uint   // how many of bits are good; above them may be some of in[at]
}

// fill makes 56 bits or more good, or all that are left.
func (r *reader) fill() {
	if r.at+8 <= len(r.in) {
		r.bits |= binary.LittleEndian.Uint64(r.in[r.at:]) << r.n
		r.at += int((63 - r.n) >> 3)
		r.n |= 56
		return
	}
	for r.n <= 56 && r.at < len(r.in) {
		r.bits |= uint64(r.in[r.at]) << r.n
		r.at++
		r.n += 8
	}
}

// take returns the next n bits, at most 32.
func (r *reader) take(n uint) (uint, error) {
	if r.n < n {
		if r.fill(); r.n < n {
			return 0, ErrShort
		}
	}
	v := r.bits & (1<<n - 1)
	r.bits >>= n
	r.n -= n
	return uint(v), nil
}

// stored copies a block that is not compressed.
func (r *reader) stored(out []byte, written int) (int, error) {
	r.at -= int(r.n / 8) // from the next whole byte on
	r.bits, r.n = 0, 0
	if len(r.in)-r.at < 4 {
		return 0, ErrShort
	}
	size := int(binary.LittleEndian.Uint16(r.in[r.at:]))
	if size^0xffff != int(binary.LittleEndian.Uint16(r.in[r.at+2:])) || size > len(out)-written {
		return 0, ErrDamaged
	}
	r.at += 4
	if size > len(r.in)-r.at {
		return 0, ErrShort
	}
	copy(out[written:], r.in[r.at:r.at+size])
	r.at += size
	return written + size, nil
}

// symbols decodes a block up to its end. After fill, 56 bits are good while the
// input lasts: enough for two literals, the longest length of 15 and 5 bits, and
// most often for the distance too.
func (d *Decoder) symbols(r *reader, out []byte, o int) (int, error) {
	literals := (*[1<<literalBits + literalSpace]entry)(d.literals.entries)
	distances := (*[1<<distanceBits + distanceSpace]entry)(d.distances.entries)
	b := *r // in registers, in the best case
	for {
		b.fill()
		e := literals[b.bits&(1<<literalBits-1)]
		for e&literal != 0 && b.n >= literalBits+20 && o < len(out) {
			out[o] = byte(e >> 16)
			o++
			b.bits >>= e.bits()
			b.n -= e.bits()
			e = literals[b.bits&(1<<literalBits-1)]
		}
		if e&further != 0 {
			e = literals[e.next(b.bits>>literalBits)]
		}
		if err := e.fits(b.n); err != nil {
			return 0, err
		}
		value := int(e.value(b.bits))
		b.bits >>= e.all()
		b.n -= e.all()
		if e&literal != 0 {
			if o == len(out) {
				return 0, ErrDamaged
			}
			out[o] = byte(value)
			o++
			continue
		}
		if e&endOfBlock != 0 {
			*r = b
			return o, nil
		}
		if b.n < 28 {
			b.fill()
		}
		e = distances[b.bits&(1<<distanceBits-1)]
		if e&further != 0 {
			e = distances[e.next(b.bits>>distanceBits)]
		}
		if err := e.fits(b.n); err != nil {
			return 0, err
		}
		distance := int(e.value(b.bits))
		b.bits >>= e.all()
		b.n -= e.all()
		if distance == 0 || distance > o || value == 0 || value > len(out)-o {
			return 0, ErrDamaged
		}
		repeat(out, o, distance, value)
		o += value
	}
}

// repeat writes at o, size times, the byte that is distance before it.
func repeat(out []byte, o, distance, size int) {
	switch {
	case distance >= 16 && size <= 16 && len(out)-o >= 16: // what is written too far is written again
		from, to := out[o-distance:][:16], out[o:][:16]
		a, b := binary.LittleEndian.Uint64(from), binary.LittleEndian.Uint64(from[8:])
		binary.LittleEndian.PutUint64(to, a)
		binary.LittleEndian.PutUint64(to[8:], b)
	case distance >= size:
		copy(out[o:o+size], out[o-distance:])
	default:
		from := out[o-distance:][:distance+size]
		for i := range size {
			from[distance+i] = from[i]
		}
	}
}
