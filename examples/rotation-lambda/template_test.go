package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
)

const (
	exampleSecret = "arn:aws:secretsmanager:us-east-1:123456789012:secret:prod/db-AbCdEf"
	exampleAdmin  = "arn:aws:secretsmanager:us-east-1:123456789012:secret:admin-GhIjKl"
	exampleKey    = "arn:aws:kms:us-east-1:123456789012:key/11111111-2222-3333-4444-555555555555"
)

// parameters are those of a deployment; key and superuser may be empty.
func parameters(secret, key, superuser string) map[string]any {
	return map[string]any{
		"SecretArn": secret, "KmsKeyArn": key, "SuperuserSecretArn": superuser,
		"SubnetIds": []any{"subnet-1", "subnet-2"}, "SecurityGroupIds": []any{"sg-1"},
	}
}

func readTemplate(t *testing.T) []byte {
	t.Helper()
	source, err := os.ReadFile("template.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return source
}

func TestTemplate(t *testing.T) {
	for _, key := range []string{"", exampleKey} {
		for _, superuser := range []string{"", exampleAdmin} {
			if err := check(readTemplate(t), key, superuser); err != nil {
				t.Errorf("with the key %q and the superuser %q:\n%v", key, superuser, err)
			}
		}
	}
}

// The other schedule, with its comment taken off.
func TestTemplateSchedule(t *testing.T) {
	var source strings.Builder
	for line := range strings.Lines(string(readTemplate(t))) {
		if strings.Contains(line, "AutomaticallyAfterDays") {
			line = strings.Replace(line, "AutomaticallyAfterDays: !Ref RotateAfterDays", "", 1)
		}
		for _, name := range []string{"ScheduleExpression", "Duration"} {
			line = strings.Replace(line, "# "+name, name, 1)
		}
		source.WriteString(line)
	}
	err := check([]byte(source.String()), "", "")
	if err == nil || err.Error() != "nothing refers to RotateAfterDays" {
		t.Errorf("check: %v", err)
	}
}

// What check is for.
func TestTemplateMistakes(t *testing.T) {
	for _, test := range []struct{ old, new, want string }{
		{"!Ref SecretArn", "!Ref SecretARN", "!Ref SecretARN is neither"},
		{"!GetAtt Function.Arn", "!GetAtt Function.ARN", "no resource Function with ARN"},
		{"!GetAtt Function.Arn", "!GetAt Function.Arn", "!GetAt is not a function"},
		{"- HasKey", "- HasKeys", "no condition HasKeys"},
		{"DependsOn: Permission", "DependsOn: Permissions", "DependsOn"},
		{"CodeUri:", "CodeURI:", "Function has CodeURI"},
		{"SecurityGroupIds: !Ref", "SecurityGroups: !Ref", "VpcConfig has SecurityGroups"},
		{"RotateImmediatelyOnUpdate:", "RotateImmediately:", "Schedule has RotateImmediately"},
		{"AWS::SecretsManager::RotationSchedule", "AWS::SecretsManager::Schedule", "AWS::SecretsManager::Schedule"},
		{"Description: Private", "Note: Private", "SubnetIds has Note"},
		{"secretsmanager:PutSecretValue", "secretsmanager:PutSecret", "secretsmanager:PutSecret is not"},
		{"Variables:", "Values:", "Environment has Values"},
		{"Resource: !Ref SuperuserSecretArn", `Resource: "*"`, "secretsmanager:GetSecretValue on *"},
		{"kms:Decrypt", "kms:Decipher", "kms:Decipher is not"},
		{"provided.al2023", "go1.x", "Runtime"},
		{"Handler: bootstrap", "Handler: main", "Handler"},
		{"[arm64]", "[arm]", "Architectures"},
		{"Principal: secretsmanager.amazonaws.com", "Principal: lambda.amazonaws.com", "Principal"},
		{"Timeout: 60", "Timeout: 3", "Timeout"},
		{"Timeout: 60", "Timeout: 60\n      Timeout: 61", "Timeout is there twice"},
		{"# Duration", "Duration", "Duration"},
		{"  Schedule:\n", "  Schedule:\n   - x\n", ""}, // no YAML
	} {
		source := string(readTemplate(t))
		if !strings.Contains(source, test.old) {
			t.Errorf("the template has no %q", test.old)
			continue
		}
		err := check([]byte(strings.Replace(source, test.old, test.new, 1)), exampleKey, exampleAdmin)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%q in the place of %q: %v; want an error about %q", test.new, test.old, err, test.want)
		}
	}
}

// check resolves a template and reports what is wrong with it.
func check(source []byte, key, superuser string) error {
	s, err := newStack(source, parameters(exampleSecret, key, superuser))
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(s.resources)) {
		s.checkResource(name)
	}
	actions := s.checkPolicy(key, superuser)
	for _, action := range actions {
		if !isAction(action) {
			s.fail("%s is not an action of Secrets Manager or KMS", action)
		}
	}
	return errors.Join(s.errs...)
}

// properties are those of the resources, and of the mappings in them, as far as the
// template has them. See the "AWS SAM template reference" and the "CloudFormation
// Template Reference".
var properties = map[string][]string{
	"AWS::Serverless::Function": {
		"CodeUri", "Handler", "Runtime", "Architectures", "MemorySize", "Timeout", "Environment", "VpcConfig", "Policies",
	},
	"AWS::Lambda::Permission":               {"Action", "FunctionName", "Principal", "SourceAccount"},
	"AWS::SecretsManager::RotationSchedule": {"SecretId", "RotationLambdaARN", "RotateImmediatelyOnUpdate", "RotationRules"},
	"Environment":                           {"Variables"},
	"VpcConfig":                             {"SubnetIds", "SecurityGroupIds"},
	"RotationRules":                         {"AutomaticallyAfterDays", "ScheduleExpression", "Duration"},
}

// required are values that properties must have.
var required = map[string]map[string]any{
	"AWS::Serverless::Function": {
		"Handler": "bootstrap", "Runtime": "provided.al2023", "Architectures": []any{"arm64"},
	},
	"AWS::Lambda::Permission": {
		"Action": "lambda:InvokeFunction", "FunctionName": "Function",
		"Principal": "secretsmanager.amazonaws.com", "SourceAccount": "123456789012",
	},
	"AWS::SecretsManager::RotationSchedule": {"SecretId": exampleSecret, "RotationLambdaARN": "Function.Arn"},
}

func (s *stack) checkResource(name string) {
	resource, _ := s.resources[name].(map[string]any)
	s.onlyKnown(name, resource, "Type", "DependsOn", "Properties")
	typ := s.types[name]
	known, ok := properties[typ]
	if !ok {
		s.fail("%s is of the type %s, which is not known here", name, typ)
	}
	if on, ok := resource["DependsOn"]; ok && s.types[fmt.Sprint(on)] == "" {
		s.fail("%s: DependsOn names %v, which is not there", name, on)
	}
	values, _ := resource["Properties"].(map[string]any)
	s.onlyKnown(name, values, known...)
	for property, want := range required[typ] {
		if !reflect.DeepEqual(values[property], want) {
			s.fail("%s: %s is %v, want %v", name, property, values[property], want)
		}
	}
	for _, property := range []string{"Environment", "VpcConfig"} {
		if members, ok := values[property].(map[string]any); ok {
			s.onlyKnown(property, members, properties[property]...)
		}
	}
	if timeout, ok := values["Timeout"].(int); ok && timeout < 30 {
		s.fail("%s: Timeout is %d s, less than connecting twice and waiting for Secrets Manager to settle", name, timeout)
	}
	if rules, ok := values["RotationRules"].(map[string]any); ok {
		s.onlyKnown("RotationRules", rules, properties["RotationRules"]...)
		_, days := rules["AutomaticallyAfterDays"]
		_, expression := rules["ScheduleExpression"]
		_, duration := rules["Duration"]
		if days == expression || duration && !expression {
			s.fail("%s: either AutomaticallyAfterDays, or ScheduleExpression and perhaps Duration", name)
		}
	}
}

// checkPolicy checks that the policy is about the secret, its key and the reading of
// the superuser's secret alone, and returns the actions that it allows.
func (s *stack) checkPolicy(key, superuser string) []string {
	var actions []string
	for _, statement := range s.statements() {
		var of []string
		switch action := statement["Action"].(type) {
		case string:
			of = []string{action}
		case []any:
			for _, a := range action {
				of = append(of, fmt.Sprint(a))
			}
		}
		for _, action := range of {
			want := exampleSecret
			switch {
			case action == "secretsmanager:GetRandomPassword":
				want = "*"
			case strings.HasPrefix(action, "kms:"):
				want = key
			case action == "secretsmanager:GetSecretValue" && len(of) == 1:
				want = superuser
			}
			if statement["Effect"] != "Allow" || statement["Resource"] != want {
				s.fail("%v %s on %v, want Allow on %s", statement["Effect"], action, statement["Resource"], want)
			}
		}
		actions = append(actions, of...)
	}
	return actions
}

// statements returns those of the function's policies.
func (s *stack) statements() []map[string]any {
	var statements []map[string]any
	for _, policy := range s.policies() {
		list, _ := policy["Statement"].([]any)
		for _, statement := range list {
			members, ok := statement.(map[string]any)
			if !ok {
				s.fail("a statement is %v", statement)
			}
			s.onlyKnown("a statement", members, "Effect", "Action", "Resource")
			statements = append(statements, members)
		}
	}
	return statements
}

func (s *stack) policies() []map[string]any {
	function, _ := s.resources["Function"].(map[string]any)
	values, _ := function["Properties"].(map[string]any)
	list, _ := values["Policies"].([]any)
	var policies []map[string]any
	for _, policy := range list {
		members, ok := policy.(map[string]any)
		if !ok || members["Version"] != "2012-10-17" {
			s.fail("a policy is %v", policy)
		}
		policies = append(policies, members)
	}
	return policies
}

// isAction reports whether there is such an action: Secrets Manager's are called as
// its operations, and of KMS's those that it uses are known.
func isAction(action string) bool {
	service, name, _ := strings.Cut(action, ":")
	switch service {
	case "secretsmanager":
		_, ok := reflect.TypeFor[*secretsmanager.Client]().MethodByName(name)
		return ok && name != "Options"
	case "kms":
		return name == "Decrypt" || name == "GenerateDataKey"
	}
	return false
}

// policyDocuments returns the policies of a deployment as JSON.
func policyDocuments(t *testing.T, secret, key, superuser string) []string {
	t.Helper()
	s, err := newStack(readTemplate(t), parameters(secret, key, superuser))
	if err != nil {
		t.Fatal(err)
	}
	var documents []string
	for _, policy := range s.policies() {
		document, err := json.Marshal(policy)
		if err != nil {
			t.Fatal(err)
		}
		documents = append(documents, string(document))
	}
	return documents
}
