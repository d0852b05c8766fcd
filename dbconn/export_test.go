package dbconn

import "database/sql/driver"

// Decoded returns how many versions a connector keeps decoded.
func Decoded(c driver.Connector) int {
	con := c.(*connector)
	con.mu.Lock()
	defer con.mu.Unlock()
	return len(con.decoded)
}
