package smtest

type putResourcePolicyInput struct {
	SecretID          string  `json:"SecretId"`
	ResourcePolicy    *string `json:"ResourcePolicy"`
	BlockPublicPolicy bool    `json:"BlockPublicPolicy"`
}

func (in putResourcePolicyInput) target() target {
	return secretTarget(in.SecretID)
}

// checkPolicy reads a resource policy from a request.
func checkPolicy(text *string) (*policy, *Error) {
	if text == nil {
		return nil, constraint("resourcePolicy", "Member must not be null")
	}
	if err := checkLength("resourcePolicy", *text, 1, 20480); err != nil {
		return nil, err
	}
	p, err := parsePolicy(*text, resourcePolicy)
	if err != nil {
		return nil, &Error{Code: codeMalformedPolicy, Message: err.Error()}
	}
	return p, nil
}

func putResourcePolicy(req *request, in putResourcePolicyInput) (secretRef, *Error) {
	sec, err := req.primary(in.SecretID)
	if err != nil {
		return secretRef{}, err
	}
	p, err := checkPolicy(in.ResourcePolicy)
	if err != nil {
		return secretRef{}, err
	}
	if in.BlockPublicPolicy && p.public() {
		return secretRef{}, &Error{
			Code:    codePublicPolicy,
			Message: "You can't attach a resource-based policy that allows broad access to the secret.",
		}
	}
	sec.policy = p
	return secretRef{ARN: sec.arn, Name: sec.name}, nil
}

type getResourcePolicyOutput struct {
	ARN            string
	Name           string
	ResourcePolicy string `json:"ResourcePolicy,omitempty"`
}

func getResourcePolicy(req *request, in secretIDInput) (getResourcePolicyOutput, *Error) {
	sec, err := req.live(in.SecretID)
	if err != nil {
		return getResourcePolicyOutput{}, err
	}
	out := getResourcePolicyOutput{ARN: sec.arn, Name: sec.name}
	if sec.policy != nil {
		out.ResourcePolicy = sec.policy.text
	}
	return out, nil
}

func deleteResourcePolicy(req *request, in secretIDInput) (secretRef, *Error) {
	sec, err := req.primary(in.SecretID)
	if err != nil {
		return secretRef{}, err
	}
	sec.policy = nil
	return secretRef{ARN: sec.arn, Name: sec.name}, nil
}

type validateResourcePolicyInput struct {
	SecretID       string  `json:"SecretId"`
	ResourcePolicy *string `json:"ResourcePolicy"`
}

func (in validateResourcePolicyInput) target() target {
	return secretTarget(in.SecretID)
}

type validateResourcePolicyOutput struct {
	PolicyValidationPassed bool
	ValidationErrors       []validationError
}

type validationError struct {
	CheckName    string
	ErrorMessage string
}

// validateResourcePolicy makes the three checks that the API Reference names. The
// messages are those of the User Guide, the names of the checks are not on record.
func validateResourcePolicy(req *request, in validateResourcePolicyInput) (validateResourcePolicyOutput, *Error) {
	out := validateResourcePolicyOutput{ValidationErrors: []validationError{}}
	resource := "*"
	if in.SecretID != "" {
		sec, err := req.live(in.SecretID)
		if err != nil {
			return out, err
		}
		resource = sec.arn
	} else if err := req.authorizeOn(req.iamAction(), "*", "*"); err != nil {
		return out, err
	}
	p, err := checkPolicy(in.ResourcePolicy)
	if err != nil {
		return out, err
	}
	if p.public() {
		out.ValidationErrors = append(out.ValidationErrors, validationError{
			"BROAD_ACCESS", "This resource policy grants broad access to your secret.",
		})
	}
	if p.decide(req.question("secretsmanager:PutResourcePolicy", resource)) == deny {
		out.ValidationErrors = append(out.ValidationErrors, validationError{
			"LOCKOUT", "Your requested changes will not allow you to manage this secret in the future.",
		})
	}
	out.PolicyValidationPassed = len(out.ValidationErrors) == 0
	return out, nil
}
