package parameterstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	ssmtypes "github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"github.com/keyturn/keyturn/cache"
	"github.com/keyturn/keyturn/internal/useragent"
)

// An API reads parameters. [*ssm.Client] is one. It must be safe for concurrent use.
type API interface {
	GetParameter(context.Context, *ssm.GetParameterInput, ...func(*ssm.Options)) (*ssm.GetParameterOutput, error)
}

// Options are the settings of a [Client]: the labels that stand for the staging
// labels of Secrets Manager. They are the same for all parameters that are read
// through it.
type Options struct {
	CurrentLabel  string // of AWSCURRENT; default: none, it is the latest version
	PendingLabel  string // of AWSPENDING; default: none, there is no such version
	PreviousLabel string // of AWSPREVIOUS; default: none, it is the version before AWSCURRENT
}

// A Client reads parameters as if they were secrets. Make one with [New]. It is safe
// for concurrent use.
type Client struct {
	api  API
	opts Options
	err  error // what is wrong with them
}

// New returns a Client over api. It does no I/O. A nil opts means all defaults. What
// is wrong with api or opts is the error of each read.
func New(api API, opts *Options) *Client {
	c := &Client{api: api}
	if opts != nil {
		c.opts = *opts
	}
	if api == nil {
		c.err = errors.New("parameterstore: the client is nil; give New a *ssm.Client")
	}
	for _, label := range []string{c.opts.CurrentLabel, c.opts.PendingLabel, c.opts.PreviousLabel} {
		if label != "" && !isLabel(label) {
			c.err = fmt.Errorf("parameterstore: the Options name the label %q, which no parameter can have: a label has letters, digits and ._-, "+
				"and begins with neither a digit nor aws nor ssm", label)
		}
	}
	return c
}

// GetSecretValue reads a version of a parameter, decrypted, by its number or by its
// staging label, AWSCURRENT if in names none. It makes one call of GetParameter; for
// AWSPREVIOUS two, if that has no label; and none for what cannot exist. Options of a
// Secrets Manager client have no effect.
func (c *Client) GetSecretValue(ctx context.Context, in *secretsmanager.GetSecretValueInput, _ ...func(*secretsmanager.Options)) (*secretsmanager.GetSecretValueOutput, error) {
	switch {
	case c.err != nil:
		return nil, c.err
	case in == nil || aws.ToString(in.SecretId) == "":
		return nil, &types.InvalidParameterException{Message: aws.String("there is no parameter name")}
	case in.VersionId != nil && in.VersionStage != nil:
		// Secrets Manager compares them. Here nobody knows the labels of a version.
		return nil, &types.InvalidParameterException{Message: aws.String("give a version or a label, not both")}
	}
	p := parse(*in.SecretId)
	current := cmp.Or(p.selector, c.opts.CurrentLabel)
	if in.VersionId != nil {
		number, err := strconv.ParseInt(*in.VersionId, 10, 64)
		if err != nil || number < 1 || strconv.FormatInt(number, 10) != *in.VersionId {
			return nil, notFound("%s has no version %q: versions are numbers", p.name, *in.VersionId)
		}
		return c.read(ctx, p, *in.VersionId, "")
	}
	switch stage := aws.ToString(in.VersionStage); {
	case stage == "" || stage == cache.Current:
		return c.read(ctx, p, current, cache.Current)
	case stage == cache.Previous && c.opts.PreviousLabel == "":
		latest, err := c.get(ctx, p, current)
		if err != nil {
			return nil, err
		}
		if latest.Version <= 1 {
			return nil, notFound("%s has no version before its first", p.name)
		}
		return c.read(ctx, p, strconv.FormatInt(latest.Version-1, 10), stage)
	case stage == cache.Previous:
		return c.read(ctx, p, c.opts.PreviousLabel, stage)
	case stage == cache.Pending && c.opts.PendingLabel == "":
		return nil, notFound("%s has no %s: Options.PendingLabel names no label for it", p.name, stage)
	case stage == cache.Pending:
		return c.read(ctx, p, c.opts.PendingLabel, stage)
	case !isLabel(stage):
		return nil, notFound("%s has no label %q: no parameter can have it", p.name, stage)
	default:
		return c.read(ctx, p, stage, stage)
	}
}

// read returns the version that a selector selects, under the name of a staging label.
func (c *Client) read(ctx context.Context, p parameter, selector, stage string) (*secretsmanager.GetSecretValueOutput, error) {
	found, err := c.get(ctx, p, selector)
	if err != nil {
		return nil, err
	}
	out := &secretsmanager.GetSecretValueOutput{
		ARN: found.ARN, Name: found.Name, SecretString: found.Value, CreatedDate: found.LastModifiedDate,
		VersionId: aws.String(strconv.FormatInt(found.Version, 10)),
	}
	if stage != "" {
		out.VersionStages = []string{stage}
	}
	if p.selector != "" && found.ARN != nil {
		// Another secret than the one without a selector: both have an AWSCURRENT.
		out.ARN = aws.String(*found.ARN + ":" + p.selector)
	}
	return out, nil
}

// get makes one call.
func (c *Client) get(ctx context.Context, p parameter, selector string) (*ssmtypes.Parameter, error) {
	name := p.name
	if selector != "" {
		name += ":" + selector
	}
	optFns := []func(*ssm.Options){tag}
	if region := p.region(); region != "" {
		optFns = append(optFns, func(o *ssm.Options) { o.Region = region })
	}
	out, err := c.api.GetParameter(ctx, &ssm.GetParameterInput{Name: &name, WithDecryption: aws.Bool(true)}, optFns...)
	switch {
	case err != nil:
		return nil, translate(err)
	case out == nil || out.Parameter == nil:
		return nil, errors.New("parameterstore: the client returned neither a parameter nor an error")
	case out.Parameter.Version < 1:
		// Such as /aws/reference/secretsmanager/..., of which Parameter Store only
		// passes on the value.
		return nil, fmt.Errorf("parameterstore: %s has no versions; read a secret of Secrets Manager with that service's own client", p.name)
	}
	return out.Parameter, nil
}

// tag puts the library's name into a call.
func tag(o *ssm.Options) {
	o.APIOptions = append(o.APIOptions, middleware.AddUserAgentKeyValue("keyturn", useragent.Version))
}
