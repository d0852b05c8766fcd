package main_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestBoto3 runs a program with boto3, AWS's SDK for Python.
func TestBoto3(t *testing.T) {
	d := launch(t, "-any-rotation-function", "-access-key", "AKIAOTHERACCOUNT=111122223333")
	cmd := exec.CommandContext(t.Context(), python(t), "-W", "ignore", "testdata/boto3_session.py")
	cmd.Env = append(os.Environ(), "AWS_ENDPOINT_URL_SECRETS_MANAGER="+d.url, "AWS_EC2_METADATA_DISABLED=true",
		"AWS_CONFIG_FILE=/nonexistent", "AWS_SHARED_CREDENTIALS_FILE=/nonexistent")
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "boto3 1.") {
		t.Errorf("%v\n%s\nsmtestd:\n%s", err, out, d.stderr.String())
	}
}

// python returns a Python with boto3, of the places where scripts/setup looks for one.
func python(t *testing.T) string {
	t.Helper()
	names := []string{"python3", "/usr/bin/python3"}
	if name := os.Getenv("KEYTURN_PYTHON"); name != "" {
		names = []string{name}
	}
	for _, name := range names {
		if err := exec.CommandContext(t.Context(), name, "-c", "import boto3").Run(); err == nil {
			return name
		}
	}
	t.Fatalf("There is no boto3 (tried %s). On Debian: apt-get install python3-boto3. Elsewhere set KEYTURN_PYTHON to a Python that has it.",
		strings.Join(names, ", "))
	return ""
}
