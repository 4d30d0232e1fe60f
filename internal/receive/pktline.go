package receive

import (
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/go-git/go-git/v5/plumbing/format/pktline"
)

// maxPacket is the longest packet of git's pkt-line format, its four digits of
// length included.
const maxPacket = 65520

// errFlush is returned by readPacket for a flush packet.
var errFlush = errors.New("flush packet")

// readPacket reads one packet's content, without the newline that may end it.
// go-git's scanner would take a push option that begins with "ERR " for an error.
func readPacket(r io.Reader) (string, error) {
	var digits [4]byte
	if _, err := io.ReadFull(r, digits[:]); err != nil {
		return "", fmt.Errorf("reading a packet: %w", err)
	}
	length, err := strconv.ParseUint(string(digits[:]), 16, 16)
	if err != nil {
		return "", fmt.Errorf("reading a packet: %q is not a length", digits[:])
	}
	if length == 0 {
		return "", errFlush
	}
	if length < 4 || length > maxPacket {
		return "", fmt.Errorf("reading a packet: %d is not a length", length)
	}
	data := make([]byte, length-4)
	if _, err := io.ReadFull(r, data); err != nil {
		return "", fmt.Errorf("reading a packet: %w", err)
	}
	if n := len(data); n > 0 && data[n-1] == '\n' {
		data = data[:n-1]
	}
	return string(data), nil
}

// writePacket writes one packet.
func writePacket(w io.Writer, content string) error {
	var err error
	if content == "" { // which the encoder takes for a flush
		_, err = io.WriteString(w, "0004")
	} else {
		err = pktline.NewEncoder(w).EncodeString(content)
	}
	if err != nil {
		return fmt.Errorf("writing a packet: %w", err)
	}
	return nil
}

func writeFlush(w io.Writer) error { return pktline.NewEncoder(w).Flush() }
