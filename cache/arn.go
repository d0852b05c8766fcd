package cache

import (
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
)

func isARN(id string) bool { return strings.HasPrefix(id, "arn:") }

// arnRegion returns the Region of a secret's ARN, and nothing for a name.
func arnRegion(id string) string {
	if !isARN(id) {
		return "" // nearly always, and for nothing
	}
	if parts := strings.SplitN(id, ":", 5); len(parts) == 5 {
		return parts[3]
	}
	return ""
}

// inRegion returns what a secret is called where it is replicated to: by the same
// name, and by an ARN that differs in the Region. It reports false if it cannot
// tell, or if that is no other Region.
func inRegion(id, region string) (string, bool) {
	if !isARN(id) {
		return id, true
	}
	parts := strings.SplitN(id, ":", 5)
	if len(parts) != 5 || region == "" || parts[3] == region {
		return "", false
	}
	parts[3] = region
	return strings.Join(parts, ":"), true
}

// same reports whether an answer with that ARN is one for the id, which is an ARN
// too, whole or without its end. A replica's differs in the Region.
func (c *Cache) same(arn, id string) bool {
	if means(id, arn) {
		return true
	}
	home, ok := inRegion(arn, arnRegion(id))
	return ok && len(c.opts.Replicas) > 0 && means(id, home)
}

// means reports whether an ARN, whole or without the hyphen and the six characters
// at its end, may be that of the secret with the whole one.
func means(id, arn string) bool {
	return arn == id || strings.HasPrefix(arn, id) && len(arn) == len(id)+7 && arn[len(id)] == '-'
}

// regionOf returns the Region of a client that says which it is for.
func regionOf(api API) string {
	if client, ok := api.(interface{ Options() secretsmanager.Options }); ok {
		return client.Options().Region
	}
	return ""
}

// source returns the client for a secret, and what to tell it at each call.
func (c *Cache) source(id string) (API, []func(*secretsmanager.Options), error) {
	region := arnRegion(id)
	switch {
	case region == "" || region == c.region:
		return c.client, nil, nil
	case c.opts.ClientFor != nil:
		api, err := c.clientFor(region)
		return api, nil, err
	case c.region != "":
		return c.client, []func(*secretsmanager.Options){func(o *secretsmanager.Options) { o.Region = region }}, nil
	}
	return c.client, nil, nil
}

// A made is a client that Options.ClientFor returned, or is about to.
type made struct {
	done chan struct{} // closed when api is there
	api  API           // nil if there is none
}

// clientFor asks Options.ClientFor, once for each Region that it has a client for.
// Who comes meanwhile waits; on a channel, as no lock is held during a callback.
func (c *Cache) clientFor(region string) (API, error) {
	own := &made{done: make(chan struct{})}
	held, found := c.clients.LoadOrStore(region, own)
	if found {
		select {
		case <-held.(*made).done:
		case <-c.done.Done():
			return nil, ErrClosed
		}
		if api := held.(*made).api; api != nil {
			return api, nil
		}
	} else {
		defer func() {
			if own.api == nil { // or it panicked
				c.clients.Delete(region)
			}
			close(own.done)
		}()
		if own.api = c.opts.ClientFor(region); own.api != nil {
			return own.api, nil
		}
	}
	return nil, fmt.Errorf("Options.ClientFor returned no client for the Region %q", region)
}

// A replica is a client for a Region that a secret is replicated to, and what the
// secret is called there.
type replica struct {
	api API
	id  string
}

// replicas returns those of a secret.
func (c *Cache) replicas(id string) []replica {
	var out []replica
	for _, api := range c.opts.Replicas {
		if there, ok := inRegion(id, regionOf(api)); ok {
			out = append(out, replica{api, there})
		}
	}
	return out
}
