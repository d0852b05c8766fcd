// Package smtest is an AWS Secrets Manager that runs inside the process: for
// tests, for demos and for local development.
//
//	srv := smtest.New(nil)
//	defer srv.Close()
//	srv.Put("prod/db", `{"username":"app","password":"one"}`)
//	client := srv.Client() // a real *secretsmanager.Client
//
// It is the service, not a mock script: it speaks the wire protocol, keeps
// secrets, versions and staging labels by the service's rules, answers with
// the service's error codes and texts, and runs rotations. A [Server] is an
// [net/http.Handler]; [Server.Client] calls it on the caller's own goroutine,
// without a socket, so that it works inside a testing/synctest bubble, where
// its clock is the bubble's.
//
// # Accounts and Regions
//
// One server has every Region and as many accounts as there are callers. A request
// is about the secrets of the Region that it is signed for, and of the account that
// its access key belongs to: [Server.AddCaller] registers users and roles with
// their identity policies, [Server.AddKey] keys of KMS with theirs, and
// PutResourcePolicy sets a secret's own. A read must be allowed by all of them that
// the service would ask, and a denial is told in the service's words. Who is not
// registered may do everything in the server's own account. Secrets are replicated
// at once; a Fault in a Region makes that one late.
//
// # Rotation
//
// [Server.AddFunction] registers a rotation function under the ARN that
// RotateSecret then names; [Lambda] turns a handler as lambda.Start takes it
// into one, [HTTPFunction] a URL, and [Server.KeepValue] is one for secrets that
// nothing stands behind. RotateSecret answers at once and the four steps run behind
// it: [Server.Wait] waits for their end and tells how it was. A rotation that fails
// is tried again, and RotationRules rotate by themselves, on the server's clock: see
// [RotationOptions].
//
// [Server.Rotate] is the short way for a test that only needs a secret to change: one
// whole rotation, to a known value, done when it returns. [Server.StartRotation] is
// the way into the middle of one.
//
// # Faults
//
//	srv.Inject(smtest.Fault{Operation: "GetSecretValue", Times: 2, Err: smtest.Throttling})
//	srv.Inject(smtest.Fault{SecretID: "prod/db", DelayAnswer: time.Second})
//	srv.Inject(smtest.Fault{Operation: "PutSecretValue", Probability: 0.1, LoseAnswer: true})
//	srv.Inject(smtest.Fault{Stage: "AWSPENDING", Stale: 3 * time.Second})
//
// A [Fault] delays calls, fails them, breaks their connection, lets reads lag behind
// writes, or stops calls at a hook before or after their effect. [Server.Calls] and
// [Server.CallsLike] tell what was called, [Server.Bill] what it would have cost.
//
// # State
//
// The secrets are in memory. [Server.Save] writes them down and [Server.Load] brings
// them back; [Options].Journal gets every change in between before anybody is told of
// it. The command smtestd, which is this package on a port, keeps a file that way.
//
// # Concurrency
//
// All methods of a Server may be called at the same time by many goroutines. No
// lock is held while a fault delays a call, a hook runs or a rotation function
// is called, so all of those may call the server again.
package smtest
