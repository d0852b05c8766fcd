// Package parameterstore reads secrets from the Parameter Store of AWS Systems
// Manager. Its [Client] goes where a *secretsmanager.Client goes:
//
//	client := parameterstore.New(ssm.NewFromConfig(cfg), nil)
//	c, err := cache.New(client, nil)
//	...
//	s, err := c.Get(ctx, "/prod/db")
//
// One permission is needed, ssm:GetParameter, and with a KMS key of your own
// kms:Decrypt on that.
//
// # What is what
//
//	secret                 parameter
//	version ID "7"         version 7; the service never changes it
//	AWSCURRENT             the latest version, or Options.CurrentLabel
//	AWSPREVIOUS            the version before that, or Options.PreviousLabel
//	AWSPENDING             none, or Options.PendingLabel
//	another staging label  the label of that name
//
// A parameter has no staging labels: the version that PutParameter makes is the
// latest at once. If it is to be AWSPENDING first, put labels on versions, and name
// them in the [Options]. What is read by its version ID shows no labels, because the
// service does not tell them.
//
// Do not delete a parameter and create it anew while programs use it: its versions
// begin at 1 again, and a program that has seen the old version 1 takes the new one
// for that.
//
// # Names and ARNs
//
// A parameter goes by its name or by its ARN, which one that another account shares
// needs. An ARN is read in its own Region. A selector at the end, as in "/prod/db:7"
// or "/prod/db:blue", says what AWSCURRENT means for that ID.
//
// # Types and sizes
//
// The value is text: of a StringList the elements with commas between them. Keep
// secrets in a SecureString; String and StringList are read too, but lie about in
// plain text. A value has at most 4 KB, and 8 KB in the advanced tier.
//
// # Errors
//
// A parameter, version or label that does not exist is a
// ResourceNotFoundException of Secrets Manager, and matches cache.ErrNotFound; a KMS
// key that cannot be used is a DecryptionFailure, a failure of the service an
// InternalServiceError. They wrap the service's own. All other errors are the
// service's own.
package parameterstore
