// Package rotation is the function that AWS Secrets Manager calls to rotate a
// secret: in place of the templates that AWS hands out.
//
//	h := rotation.NewHandler(secretsmanager.NewFromConfig(cfg), postgres.NewTarget(nil), nil)
//	lambda.Start(h.Handle)
//
// Secrets Manager calls it four times per rotation: createSecret makes the next
// value and stores it as AWSPENDING, setSecret makes the target accept it,
// testSecret logs in with it, finishSecret moves AWSCURRENT to it. What the
// target is, a database or something else that takes a credential, is a
// [Target]: see rotation/postgres and rotation/mysql, and [Issuer] for services
// that make their keys themselves. Programs without a function call
// [Handler.Rotate].
//
// # Failure
//
// A step may be cut off anywhere, repeated, or delivered twice at once. Nothing
// is remembered between calls: each looks at the labels, the stored values and
// the logins that work, and does what is missing. So the answer to a failed
// rotation is to let Secrets Manager repeat it, which it does by itself. One
// token yields one password; the target is not touched before that password is
// stored and has been read back; a target that cannot be reached is never taken
// for one that refuses the password; and AWSCURRENT does not move before the new
// credential has logged in, wherever applications will log in with it.
//
// # Strategies
//
// With one user, whose password is changed, the target refuses AWSCURRENT between
// setSecret and finishSecret, for a few seconds, or until a rotation that broke
// there is repeated; unless it can hold two passwords. Clients that must not
// notice read AWSPENDING when they are refused: package retry does. With
// alternating users AWSCURRENT works at every moment, and AWSPREVIOUS until the
// next setSecret. docs/rotation.md has what each costs.
//
// # Errors
//
// All errors of [Handler.Handle] and [Handler.Rotate] are [*Error]: they name the
// secret, the step and the version, and say what to do. No value is in them, nor
// in the log.
//
// # Permissions
//
// secretsmanager:DescribeSecret, GetSecretValue, PutSecretValue and
// UpdateSecretVersionStage on the secret, and GetRandomPassword on *. GetSecretValue
// also on the superuser's secret, if one acts. With ListSecretVersionIds besides, a
// rotation finds the password that works even after AWSPENDING was taken off the
// version that has it. With a KMS key of your own, kms:Decrypt and
// kms:GenerateDataKey on that.
package rotation
