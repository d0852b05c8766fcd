package main

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// A stack is what CloudFormation makes of a template: every function in it is
// resolved, and what does not resolve is an error. It knows the functions that
// template.yaml has, in their short form.
type stack struct {
	params     map[string]any // by name, as said or else their defaults
	conditions map[string]bool
	types      map[string]string // of the resources, by name
	resources  map[string]any    // resolved
	outputs    map[string]any

	referred map[string]bool // the parameters and conditions that something refers to
	errs     []error
}

// attributes are those that !GetAtt may ask for, by the type of the resource.
var attributes = map[string][]string{
	"AWS::Serverless::Function":             {"Arn"},
	"AWS::Lambda::Permission":               nil,
	"AWS::SecretsManager::RotationSchedule": nil,
}

// noValue is what stands for a property that is not there.
type noValue struct{}

// pseudo are the parameters that every stack has.
var pseudo = map[string]any{
	"AWS::AccountId": "123456789012",
	"AWS::Region":    "us-east-1",
	"AWS::Partition": "aws",
	"AWS::NoValue":   noValue{},
}

// newStack resolves a template with the parameters that are said.
func newStack(source []byte, said map[string]any) (*stack, error) {
	var document yaml.Node
	if err := yaml.Unmarshal(source, &document); err != nil {
		return nil, err
	}
	s := &stack{
		params: map[string]any{}, conditions: map[string]bool{}, types: map[string]string{}, referred: map[string]bool{},
	}
	sections := s.members(document.Content[0])
	for _, name := range slices.Sorted(maps.Keys(sections)) {
		if !slices.Contains([]string{"AWSTemplateFormatVersion", "Transform", "Description", "Parameters", "Conditions", "Resources", "Outputs"}, name) {
			s.fail("no section of a template: %s", name)
		}
	}
	s.readParameters(sections["Parameters"], said)
	for name, node := range s.members(sections["Conditions"]) {
		value, ok := s.resolve(node).(bool)
		if !ok {
			s.fail("condition %s is neither true nor false", name)
		}
		s.conditions[name] = value
	}
	for name, node := range s.members(sections["Resources"]) {
		if typ := s.members(node)["Type"]; typ != nil {
			s.types[name] = typ.Value
		}
	}
	s.resources, _ = s.resolve(sections["Resources"]).(map[string]any)
	s.outputs, _ = s.resolve(sections["Outputs"]).(map[string]any)
	for _, name := range slices.Concat(slices.Sorted(maps.Keys(s.params)), slices.Sorted(maps.Keys(s.conditions))) {
		if !s.referred[name] {
			s.fail("nothing refers to %s", name)
		}
	}
	return s, errors.Join(s.errs...)
}

func (s *stack) fail(format string, args ...any) {
	s.errs = append(s.errs, fmt.Errorf(format, args...))
}

func (s *stack) readParameters(node *yaml.Node, said map[string]any) {
	for name, node := range s.members(node) {
		properties, _ := s.resolve(node).(map[string]any)
		s.onlyKnown("parameter "+name, properties, "Type", "Description", "Default", "AllowedPattern", "MinValue", "MaxValue")
		value, ok := said[name]
		if !ok {
			value, ok = properties["Default"]
		}
		if !ok {
			s.fail("parameter %s has no value", name)
		}
		if pattern, ok := properties["AllowedPattern"].(string); ok {
			// CloudFormation's are Java's, of which this one uses nothing that RE2 has not.
			if matched, err := regexp.MatchString(pattern, fmt.Sprint(value)); err != nil || !matched {
				s.fail("parameter %s: %v does not match %s: %v", name, value, pattern, err)
			}
		}
		s.params[name] = value
	}
	for name := range said {
		if _, ok := s.params[name]; !ok {
			s.fail("no parameter %s", name)
		}
	}
}

// onlyKnown reports members of a mapping that it should not have, such as one that
// is misspelt.
func (s *stack) onlyKnown(what string, mapping map[string]any, known ...string) {
	for _, name := range slices.Sorted(maps.Keys(mapping)) {
		if !slices.Contains(known, name) {
			s.fail("%s has %s; known are %s", what, name, strings.Join(known, ", "))
		}
	}
}

// members returns the values of a mapping by their keys; of nil, none.
func (s *stack) members(node *yaml.Node) map[string]*yaml.Node {
	members := map[string]*yaml.Node{}
	if node == nil {
		return members
	}
	if node.Kind != yaml.MappingNode {
		s.fail("line %d: not a mapping", node.Line)
		return members
	}
	for pair := range slices.Chunk(node.Content, 2) {
		if members[pair[0].Value] != nil {
			s.fail("line %d: %s is there twice", pair[0].Line, pair[0].Value)
		}
		members[pair[0].Value] = pair[1]
	}
	return members
}

// resolve returns the value of a node: a map, a slice, or a scalar.
func (s *stack) resolve(node *yaml.Node) any {
	if node == nil {
		return noValue{}
	}
	if strings.HasPrefix(node.Tag, "!") && !strings.HasPrefix(node.Tag, "!!") {
		return s.call(node)
	}
	switch node.Kind {
	case yaml.MappingNode:
		resolved := map[string]any{}
		for name, member := range s.members(node) {
			if value := s.resolve(member); !isNoValue(value) {
				resolved[name] = value
			}
		}
		return resolved
	case yaml.SequenceNode:
		return slices.DeleteFunc(s.arguments(node), isNoValue)
	default:
		var value any
		if err := node.Decode(&value); err != nil {
			s.fail("line %d: %w", node.Line, err)
		}
		return value
	}
}

func isNoValue(value any) bool {
	_, ok := value.(noValue)
	return ok
}

func (s *stack) arguments(node *yaml.Node) []any {
	values := make([]any, len(node.Content))
	for i, item := range node.Content {
		values[i] = s.resolve(item)
	}
	return values
}

// call resolves a function. The branch of !If that is not taken must resolve too.
func (s *stack) call(node *yaml.Node) any {
	args := s.arguments(node)
	switch {
	case node.Tag == "!Ref" && node.Kind == yaml.ScalarNode:
		return s.ref(node)
	case node.Tag == "!GetAtt" && node.Kind == yaml.ScalarNode:
		name, attribute, _ := strings.Cut(node.Value, ".")
		if !slices.Contains(attributes[s.types[name]], attribute) {
			s.fail("line %d: no resource %s with %s", node.Line, name, attribute)
		}
		return node.Value
	case node.Tag == "!Equals" && len(args) == 2:
		return args[0] == args[1]
	case node.Tag == "!Not" && len(args) == 1:
		value, ok := args[0].(bool)
		if !ok {
			s.fail("line %d: !Not of what is neither true nor false", node.Line)
		}
		return !value
	case node.Tag == "!If" && len(args) == 3:
		name := fmt.Sprint(args[0])
		s.referred[name] = true
		value, ok := s.conditions[name]
		if !ok {
			s.fail("line %d: no condition %s", node.Line, name)
		}
		if value {
			return args[1]
		}
		return args[2]
	}
	s.fail("line %d: %s is not a function, or not of these arguments", node.Line, node.Tag)
	return nil
}

func (s *stack) ref(node *yaml.Node) any {
	name := node.Value
	if value, ok := pseudo[name]; ok {
		return value
	}
	if value, ok := s.params[name]; ok {
		s.referred[name] = true
		return value
	}
	if s.types[name] == "" {
		s.fail("line %d: !Ref %s is neither a parameter nor a resource", node.Line, name)
	}
	return name
}
