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
// [Target]: see rotation/postgres.
//
// # Failure
//
// A step may be cut off anywhere, repeated, or delivered twice at once. Nothing
// is remembered between calls: each looks at the labels, the stored values and
// the logins that work, and does what is missing. So the answer to a failed
// rotation is to let Secrets Manager repeat it, which it does by itself. One
// token yields one password; the target is not touched before that password is
// stored and has been read back; and a target that cannot be reached is never
// taken for one that refuses the password.
//
// Between setSecret and finishSecret the target refuses AWSCURRENT and accepts
// AWSPENDING, for a few seconds, or until a rotation that broke there is
// repeated. Clients that must not notice read AWSPENDING when they are refused:
// package retry does.
//
// # Errors
//
// All errors of [Handler.Handle] are [*Error]: they name the secret, the step
// and the version, and say what to do. No value is in them, nor in the log.
//
// # Permissions
//
// secretsmanager:DescribeSecret, GetSecretValue, PutSecretValue and
// UpdateSecretVersionStage on the secret, and GetRandomPassword on *. With
// ListSecretVersionIds besides, a rotation finds the password that works even
// after AWSPENDING was taken off the version that has it. With a KMS key of your
// own, kms:Decrypt and kms:GenerateDataKey on that.
package rotation
