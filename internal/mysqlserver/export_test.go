package mysqlserver

import "context"

// Find is what Start looks with.
var Find = find

// Program returns the path of a server's program.
func Program(ctx context.Context, kind Kind) (string, error) {
	p, err := find(ctx, kind)
	if err != nil {
		return "", err
	}
	return p.server[len(p.server)-1], nil
}
