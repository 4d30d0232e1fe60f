// Package git is the one door to a bare repository: its objects, refs and
// configuration. What is stored as git stores it by default, and is small, is
// read in this process; everything else is asked of the server's own git, in an
// environment built from nothing.
package git

import (
	"encoding/hex"
	"fmt"
	"strings"
)

// An OID names an object: 20 bytes of SHA-1 or 32 of SHA-256. The zero OID is
// git's all-zero name, which stands for "no object" in both formats. OIDs can
// be compared with ==.
type OID struct {
	raw  [32]byte
	size uint8
}

// ParseOID reads the 40 or 64 lower-case hexadecimal digits that git prints.
// All zeros, in either length, give the zero OID.
func ParseOID(s string) (OID, error) {
	if len(s) != 40 && len(s) != 64 || strings.ToLower(s) != s {
		return OID{}, fmt.Errorf("%q is not an object name", s[:min(len(s), 64)])
	}
	raw, err := hex.DecodeString(s)
	if err != nil {
		return OID{}, fmt.Errorf("%q is not an object name", s)
	}
	return OIDFromBytes(raw), nil
}

// OIDFromBytes makes an OID of 20 or 32 raw bytes, as trees and the index hold
// them. Any other length is a programming error and panics.
func OIDFromBytes(raw []byte) OID {
	if len(raw) != 20 && len(raw) != 32 {
		panic(fmt.Sprintf("git: object name of %d bytes", len(raw)))
	}
	var o OID
	copy(o.raw[:], raw)
	if o.raw != ([32]byte{}) {
		o.size = uint8(len(raw))
	}
	return o
}

// IsZero tells whether o stands for "no object".
func (o OID) IsZero() bool { return o.size == 0 }

// Bytes returns the raw name: 20 or 32 bytes, none for the zero OID.
func (o *OID) Bytes() []byte { return o.raw[:o.size] }

// String returns the name in hexadecimal, 40 zeros for the zero OID.
func (o OID) String() string {
	if o.IsZero() {
		return strings.Repeat("0", 40)
	}
	return hex.EncodeToString(o.raw[:o.size])
}

// Short returns the seven digits that people read, "none" for the zero OID.
func (o OID) Short() string {
	if o.IsZero() {
		return "none"
	}
	return hex.EncodeToString(o.raw[:4])[:7]
}

// MarshalText makes JSON hold the hexadecimal name, or "" for the zero OID.
func (o OID) MarshalText() ([]byte, error) {
	if o.IsZero() {
		return nil, nil
	}
	return []byte(o.String()), nil
}

// UnmarshalText is the inverse of MarshalText.
func (o *OID) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*o = OID{}
		return nil
	}
	parsed, err := ParseOID(string(text))
	if err != nil {
		return err
	}
	*o = parsed
	return nil
}
