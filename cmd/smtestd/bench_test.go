package main_test

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	sm "github.com/aws/aws-sdk-go-v2/service/secretsmanager"
)

// BenchmarkPut puts values to a server with 10,000 secrets, over HTTP, by one client
// and by 16 at the same time, without and with a data file.
func BenchmarkPut(b *testing.B) {
	secrets := make(map[string]string)
	for n := range 10_000 {
		secrets[fmt.Sprintf("secret-%d", n)] = strings.Repeat("x", 200)
	}
	seed, err := json.Marshal(secrets)
	if err != nil {
		b.Fatal(err)
	}
	path := file(b, string(seed))
	for _, args := range [][]string{nil, {"-data", filepath.Join(b.TempDir(), "data")}} {
		d := launch(b, append(args, "-seed", path)...)
		c := d.client()
		var n atomic.Int64
		put := func() {
			n := n.Add(1)
			_, err := c.PutSecretValue(b.Context(), &sm.PutSecretValueInput{
				SecretId: aws.String(fmt.Sprintf("secret-%d", n%10_000)), SecretString: aws.String(fmt.Sprint(n)),
			})
			if err != nil {
				b.Error(err)
			}
		}
		b.Run(fmt.Sprintf("data=%t/clients=1", args != nil), func(b *testing.B) {
			for b.Loop() {
				put()
			}
		})
		b.Run(fmt.Sprintf("data=%t/clients=16", args != nil), func(b *testing.B) {
			b.SetParallelism(8)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					put()
				}
			})
		})
		d.kill()
	}
}
