package cache

import (
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
)

func isARN(id string) bool { return strings.HasPrefix(id, "arn:") }

// arnRegion returns the Region of a secret's ARN, and nothing for a name.
func arnRegion(id string) string {
	if parts := strings.SplitN(id, ":", 5); len(parts) == 5 && parts[0] == "arn" {
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

// same reports whether an answer with that ARN is one for the id, which is a full
// ARN too. A replica's differs in the Region.
func (c *Cache) same(arn, id string) bool {
	if arn == id {
		return true
	}
	home, ok := inRegion(arn, arnRegion(id))
	return ok && len(c.opts.Replicas) > 0 && home == id
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
		api, ok := c.clients.Load(region)
		if !ok {
			made := c.opts.ClientFor(region)
			if made == nil {
				return nil, nil, fmt.Errorf("Options.ClientFor returned no client for the Region %q", region)
			}
			api, _ = c.clients.LoadOrStore(region, made)
		}
		return api.(API), nil, nil
	case c.region != "":
		return c.client, []func(*secretsmanager.Options){func(o *secretsmanager.Options) { o.Region = region }}, nil
	}
	return c.client, nil, nil
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
