package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// A container is what both deployments say of the program.
type container struct {
	port   int
	path   string            // of the health check
	env    map[string]string // its environment
	role   string            // whose permissions it has
	kill   int               // how many seconds after it was told to end it is killed
	before int               // how many of these pass before SIGTERM
}

// check reports what of it does not go with the program.
func (c container) check(program string) (errs []error) {
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if want := fmt.Sprintf(`":%d"`, c.port); !strings.Contains(program, want) {
		fail("the program does not listen on %s", want)
	}
	if want := fmt.Sprintf(`"GET %s"`, c.path); !strings.Contains(program, want) {
		fail("the program has no route %s", want)
	}
	for name, value := range c.env {
		// Not the program but the SDK reads this one.
		if name != "AWS_REGION" && !strings.Contains(program, fmt.Sprintf("os.Getenv(%q)", name)) {
			fail("the program does not read %s", name)
		}
		if strings.Contains(strings.ToLower(value), "password") {
			fail("%s holds a password", name)
		}
	}
	if !regexp.MustCompile(`^arn:aws:secretsmanager:us-east-1:123456789012:secret:prod/db-\w{6}$`).MatchString(c.env["SECRET_ARN"]) {
		fail("SECRET_ARN is %q, which policy.json is not about", c.env["SECRET_ARN"])
	}
	if c.role != "arn:aws:iam::123456789012:role/service" {
		fail("the role is %q", c.role)
	}
	if need := c.before + int(grace.Seconds()); c.kill <= need {
		fail("killed after %d s, while requests have until %d s", c.kill, need)
	}
	return errs
}

// taskDefinition is what of the input of RegisterTaskDefinition the file has: see the
// Amazon ECS API Reference.
type taskDefinition struct {
	Family                        string
	RequiresCompatibilities       []string
	NetworkMode, CPU, Memory      string
	RuntimePlatform               struct{ CPUArchitecture, OperatingSystemFamily string }
	ExecutionRoleArn, TaskRoleArn string
	ContainerDefinitions          []struct {
		Name, Image                       string
		Essential, ReadonlyRootFilesystem bool
		PortMappings                      []struct {
			ContainerPort int
			Protocol      string
		}
		Environment []struct{ Name, Value string }
		HealthCheck struct {
			Command                                 []string
			Interval, Timeout, Retries, StartPeriod int
		}
		StopTimeout      int
		LogConfiguration struct {
			LogDriver string
			Options   map[string]string
		}
	}
}

// checkTask reports what is wrong with a task definition. It knows no secrets: they
// would be injected.
func checkTask(source, program string) error {
	var task taskDefinition
	decoder := json.NewDecoder(strings.NewReader(source))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&task); err != nil {
		return err
	}
	var errs []error
	// Of the pairs that Fargate has, the smallest.
	if !slices.Equal(task.RequiresCompatibilities, []string{"FARGATE"}) || task.NetworkMode != "awsvpc" || task.CPU != "256" || task.Memory != "512" {
		errs = append(errs, errors.New("not a task for Fargate of 256 CPU units and 512 MiB"))
	}
	if task.Family == "" || task.ExecutionRoleArn == "" || task.ExecutionRoleArn == task.TaskRoleArn || len(task.ContainerDefinitions) != 1 {
		return errors.Join(append(errs, errors.New("no family, no execution role of its own or no container"))...)
	}
	in := task.ContainerDefinitions[0]
	c := container{env: map[string]string{}, role: task.TaskRoleArn, kill: in.StopTimeout}
	for _, e := range in.Environment {
		c.env[e.Name] = e.Value
	}
	if c.env["AWS_REGION"] == "" {
		errs = append(errs, errors.New("no AWS_REGION, which not every launch type sets"))
	}
	found := regexp.MustCompile(`http://127\.0\.0\.1:(\d+)(/\S*)`).FindStringSubmatch(strings.Join(in.HealthCheck.Command, " "))
	if found == nil || in.HealthCheck.Command[0] != "CMD-SHELL" || len(in.HealthCheck.Command) != 2 {
		return errors.Join(append(errs, errors.New("no health check by CMD-SHELL"))...)
	}
	c.port, _ = strconv.Atoi(found[1])
	c.path = found[2]
	if len(in.PortMappings) != 1 || in.PortMappings[0].ContainerPort != c.port {
		errs = append(errs, fmt.Errorf("the port of the health check, %d, is not that of the container", c.port))
	}
	// The program looks for two seconds.
	if in.HealthCheck.Timeout <= 2 || in.HealthCheck.Timeout >= in.HealthCheck.Interval || in.StopTimeout > 120 {
		errs = append(errs, errors.New("the times of healthCheck, or stopTimeout"))
	}
	if in.Name == "" || in.Image == "" || !in.Essential {
		errs = append(errs, errors.New("the container's name, image or essential"))
	}
	return errors.Join(append(errs, c.check(program)...)...)
}

type metadata struct {
	Name        string            `yaml:"name"`
	Annotations map[string]string `yaml:"annotations"`
}

type serviceAccount struct {
	APIVersion string   `yaml:"apiVersion"`
	Kind       string   `yaml:"kind"`
	Metadata   metadata `yaml:"metadata"`
}

type labels map[string]string

type deployment struct {
	APIVersion string   `yaml:"apiVersion"`
	Kind       string   `yaml:"kind"`
	Metadata   metadata `yaml:"metadata"`
	Spec       struct {
		Replicas int `yaml:"replicas"`
		Selector struct {
			MatchLabels labels `yaml:"matchLabels"`
		} `yaml:"selector"`
		Template struct {
			Metadata struct {
				Labels labels `yaml:"labels"`
			} `yaml:"metadata"`
			Spec struct {
				ServiceAccountName            string `yaml:"serviceAccountName"`
				TerminationGracePeriodSeconds int    `yaml:"terminationGracePeriodSeconds"`
				Containers                    []pod  `yaml:"containers"`
			} `yaml:"spec"`
		} `yaml:"template"`
	} `yaml:"spec"`
}

type pod struct {
	Name  string `yaml:"name"`
	Image string `yaml:"image"`
	Ports []struct {
		Name          string `yaml:"name"`
		ContainerPort int    `yaml:"containerPort"`
	} `yaml:"ports"`
	Env []struct {
		Name  string `yaml:"name"`
		Value string `yaml:"value"`
	} `yaml:"env"`
	ReadinessProbe struct {
		HTTPGet struct {
			Path string `yaml:"path"`
			Port string `yaml:"port"`
		} `yaml:"httpGet"`
		TimeoutSeconds int `yaml:"timeoutSeconds"`
	} `yaml:"readinessProbe"`
	LivenessProbe struct {
		TCPSocket struct {
			Port string `yaml:"port"`
		} `yaml:"tcpSocket"`
	} `yaml:"livenessProbe"`
	Lifecycle struct {
		PreStop struct {
			Sleep struct {
				Seconds int `yaml:"seconds"`
			} `yaml:"sleep"`
		} `yaml:"preStop"`
	} `yaml:"lifecycle"`
	SecurityContext struct {
		AllowPrivilegeEscalation bool `yaml:"allowPrivilegeEscalation"`
		ReadOnlyRootFilesystem   bool `yaml:"readOnlyRootFilesystem"`
		RunAsNonRoot             bool `yaml:"runAsNonRoot"`
		RunAsUser                int  `yaml:"runAsUser"`
	} `yaml:"securityContext"`
}

type kubeService struct {
	APIVersion string   `yaml:"apiVersion"`
	Kind       string   `yaml:"kind"`
	Metadata   metadata `yaml:"metadata"`
	Spec       struct {
		Selector labels `yaml:"selector"`
		Ports    []struct {
			Name       string `yaml:"name"`
			Port       int    `yaml:"port"`
			TargetPort string `yaml:"targetPort"`
		} `yaml:"ports"`
	} `yaml:"spec"`
}

// checkManifest reports what is wrong with a manifest. It knows no valueFrom and no
// volumes: they would be injected.
func checkManifest(source, program string) error {
	decoder := yaml.NewDecoder(strings.NewReader(source))
	decoder.KnownFields(true)
	var account serviceAccount
	var d deployment
	var svc kubeService
	for _, document := range []any{&account, &d, &svc} {
		if err := decoder.Decode(document); err != nil {
			return err
		}
	}
	var rest any
	if err := decoder.Decode(&rest); !errors.Is(err, io.EOF) {
		return fmt.Errorf("after the documents there is %v, %w", rest, err)
	}
	var errs []error
	expect := func(what string, got, want any) {
		if got != want {
			errs = append(errs, fmt.Errorf("%s is %v, want %v", what, got, want))
		}
	}
	expect("the first document", account.APIVersion+" "+account.Kind, "v1 ServiceAccount")
	expect("the second document", d.APIVersion+" "+d.Kind, "apps/v1 Deployment")
	expect("the third document", svc.APIVersion+" "+svc.Kind, "v1 Service")
	spec := d.Spec.Template.Spec
	expect("serviceAccountName", spec.ServiceAccountName, account.Metadata.Name)
	app := d.Spec.Template.Metadata.Labels["app"]
	expect("the Deployment's selector", d.Spec.Selector.MatchLabels["app"], app)
	expect("the Service's selector", svc.Spec.Selector["app"], app)
	expect("the number of containers", len(spec.Containers), 1)
	expect("the number of the Service's ports", len(svc.Spec.Ports), 1)
	if len(errs) > 0 || app == "" || len(spec.Containers[0].Ports) != 1 {
		return errors.Join(append(errs, errors.New("no label app, or no port"))...)
	}
	in := spec.Containers[0]
	for what, port := range map[string]string{
		"readinessProbe": in.ReadinessProbe.HTTPGet.Port, "livenessProbe": in.LivenessProbe.TCPSocket.Port, "targetPort": svc.Spec.Ports[0].TargetPort,
	} {
		expect("the port of "+what, port, in.Ports[0].Name)
	}
	if in.ReadinessProbe.TimeoutSeconds <= 2 { // for which the program looks
		errs = append(errs, errors.New("timeoutSeconds of readinessProbe"))
	}
	c := container{
		port: in.Ports[0].ContainerPort, path: in.ReadinessProbe.HTTPGet.Path, env: map[string]string{},
		role: account.Metadata.Annotations["eks.amazonaws.com/role-arn"],
		kill: spec.TerminationGracePeriodSeconds, before: in.Lifecycle.PreStop.Sleep.Seconds,
	}
	for _, e := range in.Env {
		c.env[e.Name] = e.Value
	}
	return errors.Join(append(errs, c.check(program)...)...)
}

func file(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(bytes.TrimSpace(text))
}

// The deployments are well-formed and go with the program, and mistakes in them are
// found.
func TestDeployments(t *testing.T) {
	program := file(t, "main.go")
	for name, test := range map[string]struct {
		check    func(source, program string) error
		mistakes [][3]string // what, by what it is replaced, and what the error says
	}{
		"task-definition.json": {checkTask, [][3]string{
			{`"environment": [`, `"secrets": [{"name": "A", "valueFrom": "arn"}], "environment": [`, "secrets"},
			{`"taskRoleArn"`, `"taskRole"`, "taskRole"},
			{`role/service",`, `role/other",`, "the role"},
			{`8080,`, `80,`, "port"},
			{`8080/`, `80/`, "port"},
			{`/healthz`, `/health`, `"GET /health"`},
			{`SECRET_ARN`, `SECRET_ID`, "SECRET_ID"},
			{`secret:prod/db-a1B2c3`, `secret:prod/db`, "policy.json"},
			{`"stopTimeout": 30`, `"stopTimeout": 25`, "killed"},
			{`AWS_REGION`, `SECRET_TTL`, "AWS_REGION"},
			{`"awsvpc"`, `"bridge"`, "Fargate"},
			{`"timeout": 5`, `"timeout": 1`, "healthCheck"},
			{`CMD-SHELL`, `CMD`, "CMD-SHELL"},
		}},
		"deployment.yaml": {checkManifest, [][3]string{
			{"value: arn", "valueFrom: arn", "valueFrom"},
			{"role/service\n---", "role/other\n---", "the role"},
			{"serviceAccountName: service", "serviceAccountName: default", "serviceAccountName"},
			{"containerPort: 8080", "containerPort: 80", `":80"`},
			{"/healthz\n", "/health\n", `"GET /health"`},
			{"SECRET_ARN", "SECRET_ID", "SECRET_ID"},
			{"Seconds: 40", "Seconds: 30", "killed"},
			{"seconds: 5", "seconds: 20", "killed"},
			{"targetPort: http", "targetPort: web", "targetPort"},
			{"tcpSocket", "tcp", "tcp"},
			{"      app: service\n  template", "      app: other\n  template", "selector"},
			{"kind: Deployment", "kind: Deploymnet", "Deploymnet"},
			{"      port: 80\n", "     port: 80\n", "yaml"},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			source := file(t, name)
			if err := test.check(source, program); err != nil {
				t.Error(err)
			}
			for _, m := range test.mistakes {
				if !strings.Contains(source, m[0]) {
					t.Errorf("there is no %q", m[0])
					continue
				}
				err := test.check(strings.Replace(source, m[0], m[1], 1), program)
				if err == nil || !strings.Contains(err.Error(), m[2]) {
					t.Errorf("%q in the place of %q: %v; want an error about %q", m[1], m[0], err, m[2])
				}
			}
		})
	}
}

// The page shows the policy, and of the code and the deployments what is there.
func TestPageShowsTheExample(t *testing.T) {
	page := file(t, "../../docs/ecs-eks.md")
	shown := file(t, "main.go") + "\n" + file(t, "policy.json") + "\n" + file(t, "task-definition.json") + "\n" + file(t, "deployment.yaml")
	if !strings.Contains(page, file(t, "policy.json")) {
		t.Error("docs/ecs-eks.md does not show policy.json")
	}
	has := map[string]bool{}
	for line := range strings.Lines(shown) {
		has[strings.TrimSpace(line)] = true
	}
	blocks := strings.Split(page, "```")
	if len(blocks) < 9 {
		t.Errorf("the page has %d blocks", len(blocks)/2)
	}
	for i := 1; i < len(blocks); i += 2 {
		kind, block, _ := strings.Cut(blocks[i], "\n")
		if kind == "sh" {
			continue
		}
		for line := range strings.Lines(block) {
			if line = strings.TrimSpace(line); line != "" && line != "..." && !has[line] {
				t.Errorf("docs/ecs-eks.md shows a line that the example does not have: %s", line)
			}
		}
	}
}
