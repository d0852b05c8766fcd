package dbconn

import "database/sql/driver"

// Decoded returns how many versions a connector keeps decoded.
func Decoded(c driver.Connector) int {
	src := c.(*connector).source
	src.mu.Lock()
	defer src.mu.Unlock()
	return len(src.decoded)
}
