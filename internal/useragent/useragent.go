// Package useragent puts this library's name into the calls that it makes.
package useragent

import (
	"github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
)

// Version is the library's version. The release steps keep it in line with the
// tag.
const Version = "0.1.0"

// Tag is an option of a single call, so that the name is there whoever made the
// client.
func Tag(o *secretsmanager.Options) {
	o.APIOptions = append(o.APIOptions, middleware.AddUserAgentKeyValue("keyturn", Version))
}
