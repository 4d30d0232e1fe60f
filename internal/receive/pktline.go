package receive

import (
	"errors"
	"fmt"
	"io"
	"strconv"
)

// maxPacket is the longest packet of git's pkt-line format, its four digits of
// length included.
const maxPacket = 65520

// errFlush is returned by readPacket for a flush packet.
var errFlush = errors.New("flush packet")

// readPacket reads one packet's content, without the newline that may end it.
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
	if len(content)+4 > maxPacket {
		return fmt.Errorf("writing a packet: %d bytes are too long", len(content))
	}
	_, err := fmt.Fprintf(w, "%04x%s", len(content)+4, content)
	return err
}

func writeFlush(w io.Writer) error {
	_, err := io.WriteString(w, "0000")
	return err
}
