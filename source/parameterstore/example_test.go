package parameterstore_test

import (
	"context"
	"fmt"
	"log"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"github.com/keyturn/keyturn/cache"
	"github.com/keyturn/keyturn/source/parameterstore"
)

// A parameters is a Parameter Store with one parameter, version after version. In a
// program it is ssm.NewFromConfig(cfg).
type parameters []string

func (values parameters) GetParameter(_ context.Context, in *ssm.GetParameterInput, _ ...func(*ssm.Options)) (*ssm.GetParameterOutput, error) {
	number := len(values)
	if _, selector, ok := strings.Cut(*in.Name, ":"); ok {
		if _, err := fmt.Sscan(selector, &number); err != nil {
			return nil, &types.ParameterVersionNotFound{}
		}
	}
	return &ssm.GetParameterOutput{Parameter: &types.Parameter{
		Name: in.Name, Value: aws.String(values[number-1]), Version: int64(number),
	}}, nil
}

func Example() {
	client := parameterstore.New(parameters{"key-1", "key-2"}, nil)

	c, err := cache.New(client, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	current, err := c.Get(context.Background(), "/prod/api")
	if err != nil {
		log.Fatal(err)
	}
	previous, err := c.GetStage(context.Background(), "/prod/api", cache.Previous)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(current.VersionID(), current.Text())
	fmt.Println(previous.VersionID(), previous.Text())
	// Output:
	// 2 key-2
	// 1 key-1
}
