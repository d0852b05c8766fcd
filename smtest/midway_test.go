package smtest_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/aws/aws-sdk-go-v2/aws"
	sm "github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/keyturn/keyturn/smtest"
)

func TestStartRotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, c := newServer(t)
		create(t, c, "s", "a", "one")
		srv.ResetCalls()
		id := srv.StartRotation("s", "two")
		if again := srv.StartRotation("s", "two"); again != id {
			t.Errorf("StartRotation again = %s, want the same version %s", again, id)
		}
		show := func() string { return strings.ReplaceAll(versions(t, c, "s"), id, "NEW") }
		if got := show(); got != "NEW:AWSPENDING a:AWSCURRENT" && got != "a:AWSCURRENT NEW:AWSPENDING" {
			t.Errorf("after StartRotation: %s", got)
		}
		wantValue(t, c, "s", "one")
		out, err := c.GetSecretValue(t.Context(), &sm.GetSecretValueInput{SecretId: aws.String("s"), VersionStage: aws.String(pend)})
		if err != nil || *out.SecretString != "two" || *out.VersionId != id {
			t.Errorf("AWSPENDING = %+v, %v", out, err)
		}
		if got := srv.FinishRotation("s"); got != id {
			t.Errorf("FinishRotation = %s, want %s", got, id)
		}
		if got := show(); got != "NEW:AWSCURRENT a:AWSPREVIOUS" && got != "a:AWSPREVIOUS NEW:AWSCURRENT" {
			t.Errorf("after FinishRotation: %s", got)
		}
		wantValue(t, c, "s", "two")

		// Abandoned, the value is only there for who knows the version.
		id = srv.StartRotation("s", "three")
		if got := srv.AbandonRotation("s"); got != id {
			t.Errorf("AbandonRotation = %s, want %s", got, id)
		}
		if got := show(); !strings.Contains(got, "NEW: ") && !strings.HasSuffix(got, "NEW:") {
			t.Errorf("after AbandonRotation: %s", got)
		}
		out, err = c.GetSecretValue(t.Context(), &sm.GetSecretValueInput{SecretId: aws.String("s"), VersionId: aws.String(id)})
		if err != nil || *out.SecretString != "three" {
			t.Errorf("the abandoned version = %+v, %v", out, err)
		}
		wantValue(t, c, "s", "two")

		// Rotate goes on where StartRotation stopped.
		id = srv.StartRotation("s", "four")
		if got, err := srv.Rotate(t.Context(), "s", "four"); got != id || err != nil {
			t.Errorf("Rotate = %s, %v, want %s", got, err, id)
		}
		if n := srv.Count("PutSecretValue") + srv.Count("UpdateSecretVersionStage"); n != 0 {
			t.Errorf("%d calls are logged", n)
		}
	})
}

// LastRotatedDate knows of a rotation that a test finished.
func TestFinishRotationCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, c := newServer(t)
		create(t, c, "s", "a", "one")
		newRotator(srv)
		if err := rotate(t, c, "x", later, days(10)); err != nil {
			t.Fatal(err)
		}
		sleepUntil(t, srv, "2000-01-03")
		srv.StartRotation("s", "two")
		srv.FinishRotation("s")
		wantDates(t, c, "2000-01-03", "2000-01-13 23:59:59")
	})
}

func TestMidwayPanics(t *testing.T) {
	srv, c := newServer(t)
	srv.Put("s", "one")
	srv.Put("pending", "one")
	srv.StartRotation("pending", "two")
	for _, tt := range []struct {
		call func()
		want string
	}{
		{
			func() { srv.StartRotation("none", "secret-value") },
			`smtest: start rotation of "none": ResourceNotFoundException: Secrets Manager can't find the specified secret.`,
		},
		{
			func() { srv.StartRotation("s", "") },
			`smtest: start rotation of "s": InvalidRequestException: You must provide either SecretString or SecretBinary.`,
		},
		{
			func() { srv.StartRotation("pending", "secret-value") },
			`smtest: start rotation of "pending": InvalidRequestException: A previous rotation isn't complete: version ID is AWSPENDING with another value.`,
		},
		{func() { srv.FinishRotation("s") }, `smtest: finish rotation of "s": InvalidRequestException: There is no AWSPENDING version with a value.`},
		{func() { srv.AbandonRotation("s") }, `smtest: abandon rotation of "s": InvalidRequestException: There is no AWSPENDING version.`},
		{
			func() { srv.Close(); srv.AbandonRotation("pending") },
			`smtest: abandon rotation of "pending": ServerClosed: smtest: the server is closed`,
		},
	} {
		out, _ := c.DescribeSecret(t.Context(), &sm.DescribeSecretInput{SecretId: aws.String("pending")})
		got := fmt.Sprint(panics(tt.call))
		if out != nil {
			for id, stages := range out.VersionIdsToStages {
				if stages[0] == pend {
					got = strings.ReplaceAll(got, id, "ID")
				}
			}
		}
		if got != tt.want {
			t.Errorf("panic\n got %s\nwant %s", got, tt.want)
		}
	}
}

func ExampleServer_StartRotation() {
	srv := smtest.New(nil)
	defer srv.Close()
	srv.Put("prod/db", "one")

	pending := srv.StartRotation("prod/db", "two") // setSecret has run: the database takes "two" only
	// ... does the service under test find its way in?
	fmt.Println(srv.FinishRotation("prod/db") == pending)

	// Output: true
}
