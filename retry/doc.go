// Package retry finds the version of a secret that a target accepts.
//
// While a password is being rotated there are seconds in which the database
// already wants the new one and Secrets Manager still calls the old one
// AWSCURRENT. A [Retrier] gets a caller through them:
//
//	r := retry.New(c, "prod/api", isUnauthorized, nil)
//	err := r.Do(ctx, func(ctx context.Context, s *cache.Secret) error {
//		return client.Login(ctx, s.Text())
//	})
//
// # Which versions are tried
//
// In this order, at most three: AWSCURRENT as the cache holds it; AWSCURRENT read
// again; AWSPENDING, which the target may want already; AWSCURRENT once more, for
// the label may just have moved; AWSPREVIOUS, for a read replica that lags behind.
// After a refusal the labels are looked at anew. A version that was refused is
// left alone by everybody until there is a reason to think otherwise: the labels
// move, the target refuses what it has accepted since, or 30 seconds have passed.
//
// # How many logins fail
//
// One, and those that are in flight when the first refusal of the old password
// comes back. After it, and for a version that was not accepted within the last
// second, one caller logs in and the others wait for the verdict; if there is
// none within a second, or the network fails, one more goes ahead, then two, then
// four. Where they all tried for themselves, a pool of twenty connections would
// lock an account that allows ten bad passwords. For a server that locks sooner
// there is Options.MaxConcurrentLogins.
//
// A target that goes on refusing is asked once per version and 30 seconds, by one
// caller. Only one that has accepted two versions within 30 seconds and then
// refuses both may be an endpoint over nodes that differ: it is asked up to
// fifteen times before both are left alone, unless Options.OneServer says otherwise.
//
// # When nothing is left
//
// If the labels say that a rotation is under way, or cannot be read, Do waits for
// its end, up to Options.Patience, without trying a password; when the labels have
// moved, or somebody else got in, there is one login more. Else it returns an
// [*Error] at once.
//
// # HTTP
//
// [NewTransport] returns an [http.RoundTripper] that puts an API key or a bearer
// token on the requests to one host, and finds the version that the API accepts.
//
// # What happens
//
// Options.OnEvent hears of every login, refusal, proof, quarantine and lockout, and
// [Stats] counts them.
package retry
