// Package redis has go-redis log in with the credentials of a secret: what
// retry.Retrier does for a client that is not SQL. It is to be copied and changed.
package redis

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/keyturn/keyturn/cache"
	"github.com/keyturn/keyturn/retry"
)

// NewClient returns a client whose connections log in with whichever version of
// the secret the server accepts. opts names no user and no password, and has no
// OnConnect.
//
// The login is made there and not by a CredentialsProvider, which is asked for a
// password and never told what became of it. A connection may try several.
//
// Connections that are open stay so when a password changes: ConnMaxLifetime ends
// them.
func NewClient(c *cache.Cache, secretID string, opts redis.Options) *redis.Client {
	r := retry.New(c, secretID, refused, &retry.Options{
		Target:   opts.Addr,
		Patience: 5 * time.Second, // a command without a deadline waits no longer for the end of a rotation
	})
	// Before OnConnect nobody is logged in, and Redis refuses everything: what
	// go-redis would do by then is done after the login.
	name, database := opts.ClientName, opts.DB
	opts.ClientName, opts.DB = "", 0
	opts.Protocol = 2 // of 3, HELLO would have to come first
	opts.OnConnect = func(ctx context.Context, conn *redis.Conn) error {
		err := r.Do(ctx, func(ctx context.Context, s *cache.Secret) error {
			var login struct {
				Username string
				Password cache.Redacted
			}
			if err := s.Decode(&login); err != nil {
				return err
			}
			return conn.AuthACL(ctx, login.Username, string(login.Password)).Err()
		})
		if err != nil {
			return err
		}
		_, err = conn.Pipelined(ctx, func(p redis.Pipeliner) error {
			if name != "" {
				p.ClientSetName(ctx, name)
			}
			if database != 0 {
				p.Select(ctx, database)
			}
			return nil
		})
		return err
	}
	return redis.NewClient(&opts)
}

// refused reports whether err is the server refusing the login: a user that it
// does not know, or that is switched off, or a wrong password. Source: "AUTH" in
// Redis's documentation, of Redis 6 and later.
func refused(err error) bool { return redis.HasErrorPrefix(err, "WRONGPASS") }
