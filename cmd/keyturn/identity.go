package main

import (
	"context"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sts"
)

// identityTimeout keeps a network without a way to STS, of which there are many,
// from using up the time of the other checks.
const identityTimeout = 5 * time.Second

// whoAmI names the caller. Nothing else depends on the answer.
func whoAmI(ctx context.Context, api identityAPI, region string) Finding {
	ctx, cancel := context.WithTimeout(ctx, identityTimeout)
	defer cancel()
	out, err := api.GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
	if err != nil {
		return Finding{Check: checkIdentity, Status: Note, Detail: "not known, going on without: " + explain("", err).text}
	}
	return Finding{Check: checkIdentity, Status: OK, Detail: aws.ToString(out.Arn) + ", in " + region}
}
