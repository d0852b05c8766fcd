package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	sm "github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"

	"github.com/keyturn/keyturn/smtest"
)

// A seedling is a secret of the seed file.
type seedling struct {
	name        string
	region      string // empty: the server's
	description *string
	kmsKey      *string
	text        *string
	binary      []byte
	tags        map[string]string
	policy      *string
}

// seed creates the secrets of a seed file that are not there yet. An error says
// which secret is wrong and never shows a value.
func seed(ctx context.Context, srv *smtest.Server, path string, log *slog.Logger) error {
	content, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("-seed: %w", err)
	}
	seedlings, err := parseSeed(content)
	if err != nil {
		return fmt.Errorf("-seed %s: %w", path, err)
	}
	created := 0
	for _, s := range seedlings {
		isNew, err := s.create(ctx, srv)
		if err != nil {
			return fmt.Errorf("-seed %s: secret %q: %w", path, s.name, err)
		}
		if isNew {
			created++
		}
	}
	// What a program under test does is to be counted from zero.
	srv.ResetCalls()
	log.LogAttrs(ctx, slog.LevelInfo, "smtestd: seeded", slog.String("file", path),
		slog.Int("created", created), slog.Int("there_already", len(seedlings)-created))
	return nil
}

// create makes the secret by the API, which checks it as it checks any other. It
// reports false if there is one of that name, be it marked for deletion.
func (s *seedling) create(ctx context.Context, srv *smtest.Server) (bool, error) {
	c := srv.Client(func(o *sm.Options) {
		if s.region != "" {
			o.Region = s.region
		}
		o.RetryMaxAttempts = 1
	})
	in := &sm.CreateSecretInput{
		Name: &s.name, Description: s.description, KmsKeyId: s.kmsKey, SecretString: s.text, SecretBinary: s.binary,
	}
	for _, key := range slices.Sorted(maps.Keys(s.tags)) {
		in.Tags = append(in.Tags, types.Tag{Key: aws.String(key), Value: aws.String(s.tags[key])})
	}
	if _, err := c.CreateSecret(ctx, in); err != nil {
		// It need not be for the name that it is refused: see whether that is taken.
		if _, missing := c.DescribeSecret(ctx, &sm.DescribeSecretInput{SecretId: &s.name}); missing == nil {
			return false, nil
		}
		return false, err
	}
	if s.policy != nil {
		if _, err := c.PutResourcePolicy(ctx, &sm.PutResourcePolicyInput{SecretId: &s.name, ResourcePolicy: s.policy}); err != nil {
			return false, err
		}
	}
	return true, nil
}

// parseSeed reads a seed file, in its order.
func parseSeed(content []byte) ([]seedling, error) {
	// Not d.Decode's error further down: json's texts quote what they stumble upon.
	var whole json.RawMessage
	if err := json.Unmarshal(content, &whole); err != nil {
		offset := int64(len(content))
		if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
			offset = syntax.Offset
		}
		return nil, fmt.Errorf("it is not valid JSON in line %d", 1+bytes.Count(content[:offset], []byte("\n")))
	}
	members, err := object(whole)
	if err != nil {
		return nil, err
	}
	out := make([]seedling, 0, len(members))
	for _, m := range members {
		s, err := parseSeedling(m)
		if err != nil {
			return nil, fmt.Errorf("secret %q: %w", m.name, err)
		}
		out = append(out, s)
	}
	return out, nil
}

func parseSeedling(m member) (seedling, error) {
	s := seedling{name: m.name}
	switch m.value[0] {
	case '"':
		return s, decode(m.value, &s.text, "a string")
	case '{':
	default:
		return s, errors.New("it is neither a string nor an object")
	}
	fields, err := object(m.value)
	if err != nil {
		return s, err
	}
	for _, f := range fields {
		switch f.name {
		case "value":
			s.text, err = text(f.value)
		case "binary":
			err = decode(f.value, &s.binary, "base64")
		case "description":
			err = decode(f.value, &s.description, "a string")
		case "kmsKey":
			err = decode(f.value, &s.kmsKey, "a string")
		case "tags":
			err = decode(f.value, &s.tags, "an object of strings")
		case "policy":
			s.policy, err = text(f.value)
		case "region":
			if err = decode(f.value, &s.region, "a string"); err == nil && !regionRE.MatchString(s.region) {
				err = errors.New("it is not a Region such as eu-west-1")
			}
		default:
			// Most likely the value itself, an object as AWS writes it for databases.
			return s, fmt.Errorf(`%q is none of value, binary, description, tags, kmsKey, policy and region; `+
				`if it is part of the secret's value, put that into "value"`, f.name)
		}
		if err != nil {
			return s, fmt.Errorf("%s: %w", f.name, err)
		}
	}
	return s, nil
}

// text returns a JSON string, or the JSON text of anything else, on one line.
func text(raw json.RawMessage) (*string, error) {
	var s string
	switch raw[0] {
	case '"':
		return &s, decode(raw, &s, "a string")
	case 'n':
		return nil, errors.New("it is null")
	}
	var b bytes.Buffer
	if err := json.Compact(&b, raw); err != nil {
		return nil, errors.New("it is not valid JSON")
	}
	s = b.String()
	return &s, nil
}

// decode is json.Unmarshal with an error that quotes nothing.
func decode(raw json.RawMessage, v any, what string) error {
	if err := json.Unmarshal(raw, v); err != nil || bytes.Equal(raw, []byte("null")) {
		return errors.New("it is not " + what)
	}
	return nil
}

// A member is one of a JSON object.
type member struct {
	name  string
	value json.RawMessage
}

// object reads a JSON object from valid JSON. Unlike json.Unmarshal it keeps the
// order, and refuses a name that is there twice, of which one would be lost.
func object(content []byte) ([]member, error) {
	if content[0] != '{' {
		return nil, errors.New("it is not a JSON object")
	}
	d := json.NewDecoder(bytes.NewReader(content))
	if _, err := d.Token(); err != nil {
		return nil, err
	}
	var out []member
	names := make(map[string]bool)
	for d.More() {
		var m member
		t, err := d.Token()
		if err != nil {
			return nil, err
		}
		m.name, _ = t.(string)
		if err := d.Decode(&m.value); err != nil {
			return nil, err
		}
		if names[m.name] {
			return nil, fmt.Errorf("%q is there twice", m.name)
		}
		names[m.name] = true
		out = append(out, m)
	}
	return out, nil
}
