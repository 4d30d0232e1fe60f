package inflate

// setFixed makes the tables of a block with fixed codes.
func (d *Decoder) setFixed() {
	if d.fixed {
		return
	}
	sizes := d.sizes[:]
	for i := range sizes {
		switch {
		case i < 144:
			sizes[i] = 8
		case i < 256:
			sizes[i] = 9
		case i < 280:
			sizes[i] = 7
		case i < maxLiterals:
			sizes[i] = 8
		default:
			sizes[i] = 5
		}
	}
	if d.literals.build(sizes[:maxLiterals], &d.sorted) != nil || d.distances.build(sizes[maxLiterals:], &d.sorted) != nil {
		panic("inflate: the fixed codes are wrong")
	}
	d.fixed = true
}

// readCodes makes the tables of a block that begins with its codes.
func (d *Decoder) readCodes(r *reader) error {
	d.fixed = false
	head, err := r.take(14)
	if err != nil {
		return err
	}
	literals, distances, lengths := int(head&31)+257, int(head>>5&31)+1, int(head>>10)+4
	if literals > 286 || distances > 30 {
		return ErrDamaged
	}
	var sizes [19]uint8
	order := [...]uint8{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}
	for _, symbol := range order[:lengths] {
		size, err := r.take(3)
		if err != nil {
			return err
		}
		sizes[symbol] = uint8(size)
	}
	if err := d.lengths.build(sizes[:], &d.sorted); err != nil {
		return err
	}
	all := d.sizes[:literals+distances]
	if err := d.readSizes(r, all); err != nil {
		return err
	}
	if all[256] == 0 { // the end
		return ErrDamaged
	}
	if err := d.literals.build(all[:literals], &d.sorted); err != nil {
		return err
	}
	return d.distances.build(all[literals:], &d.sorted)
}

// readSizes reads the sizes of codes, which are compressed themselves.
func (d *Decoder) readSizes(r *reader, sizes []uint8) error {
	for i := 0; i < len(sizes); {
		if r.n < lengthBits+7 {
			r.fill()
		}
		e := d.lengths.entries[r.bits&(1<<lengthBits-1)]
		if err := e.fits(r.n); err != nil {
			return err
		}
		r.bits >>= e.bits()
		r.n -= e.bits()
		size := uint8(e >> 16)
		if size < 16 {
			sizes[i] = size
			i++
			continue
		}
		times, err := uint(0), error(nil)
		switch size {
		case 16: // the one before, again
			if i == 0 {
				return ErrDamaged
			}
			size = sizes[i-1]
			times, err = r.take(2)
			times += 3
		case 17:
			size = 0
			times, err = r.take(3)
			times += 3
		default:
			size = 0
			times, err = r.take(7)
			times += 11
		}
		if err != nil {
			return err
		}
		if int(times) > len(sizes)-i {
			return ErrDamaged
		}
		for range times {
			sizes[i] = size
			i++
		}
	}
	return nil
}
