package cache

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/keyturn/keyturn/internal/useragent"
)

// callBatch returns what the service says of the secrets of a batch; nothing of
// those that are to be asked for one by one.
func (p *prefetch) callBatch(api batchAPI, optFns []func(*secretsmanager.Options), tickets []ticket, turn chan struct{}) (answers map[string]answer) {
	c := p.cache
	defer p.take(turn)()
	if !slices.ContainsFunc(tickets, func(t ticket) bool { return t.flight.ctx.Err() == nil }) {
		return nil // left by all who waited
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(tickets[0].flight.ctx), c.opts.FetchTimeout)
	defer cancel()
	defer context.AfterFunc(c.done, cancel)()
	defer alone(tickets, cancel)()
	answers = make(map[string]answer)
	b := batch{tickets: tickets, began: time.Now(), cache: c}
	var err error
	if !safely(func() { err = b.read(ctx, api, optFns, answers) }) {
		return nil // each finds out what is the matter with the client
	}
	if err == nil || !lasting(ctx, err) {
		return answers
	}
	err = callError(ctx, c.opts.FetchTimeout, err)
	for _, t := range tickets {
		if _, ok := answers[t.entry.key.id]; !ok {
			answers[t.entry.key.id] = answer{err: err}
		}
	}
	return answers
}

// lasting reports whether to give up with the error of a batch, and not to read
// its secrets one by one: a service that does not answer will not answer twenty
// calls either, but one that throttles or denies this operation may.
func lasting(ctx context.Context, err error) bool {
	if ctx.Err() != nil {
		return true
	}
	api, ok := serviceError(err)
	if !ok {
		return true
	}
	response, ok := errors.AsType[*smithyhttp.ResponseError](err)
	return api.ErrorCode() == "InternalServiceError" || ok && response.HTTPStatusCode() >= http.StatusInternalServerError
}

// alone calls cancel when all the flights have been left by their readers, until
// what it returns is called.
func alone(tickets []ticket, cancel func()) (stop func()) {
	var mu sync.Mutex
	left := len(tickets)
	var stops []func() bool
	for _, t := range tickets {
		stops = append(stops, context.AfterFunc(t.flight.ctx, func() {
			mu.Lock()
			defer mu.Unlock()
			if left--; left == 0 {
				cancel()
			}
		}))
	}
	return func() {
		for _, stop := range stops {
			stop()
		}
	}
}

// A batch is what one call of BatchGetSecretValue is for.
type batch struct {
	cache   *Cache
	tickets []ticket
	began   time.Time
}

// read makes the calls, and puts what they bring under the secret IDs.
func (b *batch) read(ctx context.Context, api batchAPI, optFns []func(*secretsmanager.Options), answers map[string]answer) error {
	in := &secretsmanager.BatchGetSecretValueInput{}
	for _, t := range b.tickets {
		in.SecretIdList = append(in.SecretIdList, t.entry.key.id)
	}
	for {
		b.cache.counters.batches.Add(1)
		out, err := api.BatchGetSecretValue(ctx, in, append(slices.Clip(optFns), useragent.Tag)...)
		if err != nil {
			return err
		}
		if out == nil {
			return errors.New("the client returned neither values nor an error")
		}
		for _, value := range out.SecretValues {
			b.assign(value, answers)
		}
		for _, failed := range out.Errors {
			answers[aws.ToString(failed.SecretId)] = answer{err: batchError(failed)}
		}
		if aws.ToString(out.NextToken) == "" {
			return nil
		}
		in.NextToken = out.NextToken
	}
}

// assign finds out which of the secret IDs a value is for: the service does not
// say. An ARN is certain. A name is too, unless an ARN in the same call may have
// brought the value, of another account's secret of that name; such a name
// is left to be read by itself.
func (b *batch) assign(value types.SecretValueEntry, answers map[string]answer) {
	s := newSecret(&secretsmanager.GetSecretValueOutput{
		ARN: value.ARN, Name: value.Name, VersionId: value.VersionId, VersionStages: value.VersionStages,
		SecretString: value.SecretString, SecretBinary: value.SecretBinary, CreatedDate: value.CreatedDate,
	}, b.began, b.cache.clock)
	claimed := false
	for _, t := range b.tickets {
		id := t.entry.key.id
		if isARN(id) && means(id, s.arn) {
			answers[id] = accept(t.entry.key, s)
			claimed = true
		}
	}
	if claimed {
		return
	}
	for _, t := range b.tickets {
		if t.entry.key.id == s.name && !isARN(s.name) {
			answers[s.name] = accept(t.entry.key, s)
		}
	}
}

// batchError returns the error of one secret of a batch, as the SDK returns that
// of a call for it.
func batchError(failed types.APIErrorType) error {
	code, message := aws.ToString(failed.ErrorCode), failed.Message
	switch code {
	case "ResourceNotFoundException":
		return &types.ResourceNotFoundException{Message: message}
	case "InvalidRequestException":
		return &types.InvalidRequestException{Message: message}
	case "InvalidParameterException":
		return &types.InvalidParameterException{Message: message}
	case "DecryptionFailure":
		return &types.DecryptionFailure{Message: message}
	case "InternalServiceError":
		return &types.InternalServiceError{Message: message}
	}
	return &smithy.GenericAPIError{Code: code, Message: aws.ToString(message)}
}
