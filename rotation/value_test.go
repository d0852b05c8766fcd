package rotation_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/keyturn/keyturn/internal/leaktest"
	"github.com/keyturn/keyturn/rotation"
)

func TestValueWith(t *testing.T) {
	for _, test := range []struct{ name, old, want, err string }{
		{"order and space", "{ \"b\" : 1 ,\n \"password\":\"old\" , \"a\": null}", "{ \"b\" : 1 ,\n \"password\":\"new\" , \"a\": null}", ""},
		{"numbers", `{"n":12345678901234567890,"f":1.50e+3,"password":"old"}`, `{"n":12345678901234567890,"f":1.50e+3,"password":"new"}`, ""},
		{"nested key of that name", `{"x":{"password":"keep"},"password":"old"}`, `{"x":{"password":"keep"},"password":"new"}`, ""},
		{"not the same in another case", `{"Password":"keep","password":"old"}`, `{"Password":"keep","password":"new"}`, ""},
		{"escaped key", `{"p\u0061ssword":"old"}`, `{"p\u0061ssword":"new"}`, ""},
		{"another type", `{"password":{"a":[1]},"z":"<&>"}`, `{"password":"new","z":"<&>"}`, ""},
		{"twice", `{"password":"a","x":1,"password":"b"}`, `{"password":"new","x":1,"password":"new"}`, ""},
		{"missing", `{"a":1 }`, `{"a":1, "password": "new" }`, ""},
		{"empty object", ` { } `, ` {"password": "new" } `, ""},
		{"value in a value", `{"a":"\"password\":\"keep\"","password":"old"}`, `{"a":"\"password\":\"keep\"","password":"new"}`, ""},
		{"array", `["hidden"]`, "", "not a JSON object"},
		{"string", `"hidden"`, "", "not a JSON object"},
		{"text", `hidden`, "", "not valid JSON"},
		{"cut off", `{"password":"hidden`, "", "not valid JSON"},
		{"more behind", `{"password":"old"} hidden`, "", "not valid JSON"},
		{"empty", ``, "", "not valid JSON"},
	} {
		t.Run(test.name, func(t *testing.T) {
			old := rotation.NewValue(test.old)
			got, err := old.With("password", "new")
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) || strings.Contains(err.Error(), "hidden") {
					t.Errorf("With = %v, want an error with %q and no value", err, test.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got.Text() != test.want {
				t.Errorf("With = %s, want %s", got.Text(), test.want)
			}
			if old.Text() != test.old || got.VersionID() != "" {
				t.Error("With has changed the old value, or the new one has a version")
			}
		})
	}
}

func FuzzValueWith(f *testing.F) {
	f.Add(`{"password":"old","n":1e400,"x":[{}]}`, `it's "new" \ <&> ü`)
	f.Add(`{"a":1}`, "")
	f.Add(` {"password" : null , "password":{} }`, "\x00")
	f.Fuzz(func(t *testing.T, old, text string) {
		got, err := rotation.NewValue(old).With("password", text)
		if err != nil || !utf8.ValidString(text) {
			return
		}
		var before, after map[string]json.RawMessage
		if err := json.Unmarshal([]byte(old), &before); err != nil {
			t.Fatalf("With took %q: %v", old, err)
		}
		if err := got.Decode(&after); err != nil {
			t.Fatalf("With made %q: %v", got.Text(), err)
		}
		var password string
		if err := json.Unmarshal(after["password"], &password); err != nil || password != text {
			t.Errorf("the password is %q (%v), want %q", password, err, text)
		}
		delete(before, "password")
		delete(after, "password")
		if !maps.EqualFunc(before, after, func(a, b json.RawMessage) bool { return bytes.Equal(a, b) }) {
			t.Errorf("the other keys were\n%s\nand are\n%s", before, after)
		}
	})
}

func TestValueDecode(t *testing.T) {
	v := rotation.NewValue(`{"port":4711,"user":"hidden","when":"hidden"}`)
	var ok struct {
		Port json.Number
		User string
	}
	if err := v.Decode(&ok); err != nil || ok.Port != "4711" || ok.User != "hidden" {
		t.Errorf("Decode = %v, %+v", err, ok)
	}
	for name, into := range map[string]any{
		"string": &struct{ Port string }{},
		"number": &struct{ User int }{},
		"small":  &struct{ Port int8 }{},
		"own":    &struct{ When picky }{},
		"no ptr": struct{}{},
		"whole":  new(int),
	} {
		err := v.Decode(into)
		if err == nil || strings.Contains(fmt.Sprintf("%v %+v %#v %d", err, err, err, err), "hidden") || strings.Contains(err.Error(), "4711") {
			t.Errorf("%s: Decode = %v, want an error that quotes nothing", name, err)
		}
	}
}

type picky struct{}

func (*picky) UnmarshalJSON(b []byte) error { return fmt.Errorf("cannot read %s", b) }

// However a value is printed, it does not show.
func TestValueIsRedacted(t *testing.T) {
	const secret = "hunter2-is-secret"
	v := rotation.NewValue(secret)
	if v.Text() != secret {
		t.Fatal("the value is not there at all")
	}
	leaktest.Check(t, secret, v)
	leaktest.Check(t, secret, *v)
	if got := fmt.Sprint(v); got != "[redacted]" {
		t.Errorf("printed as %q", got)
	}
}

// An error shows nothing of what its cause holds.
func TestErrorIsRedacted(t *testing.T) {
	srv, mem := newService(t), newMemory()
	h := rotation.NewHandler(srv.client, mem, nil)
	token := srv.begin(t)
	if err := run(t.Context(), h, token, steps[0]); err != nil {
		t.Fatal(err)
	}
	mem.fail(leaky{Config: struct{ Password string }{"hunter2-is-secret"}})
	err := run(t.Context(), h, token, steps[1])
	if _, ok := errors.AsType[leaky](err); !ok {
		t.Fatalf("the target's error is not wrapped in %v", err)
	}
	leaktest.Check(t, "hunter2", err)
}

// leaky is an error like pgconn.ConnectError, and worse: fmt walks into values
// where it stops at pointers.
type leaky struct{ Config struct{ Password string } }

func (leaky) Error() string { return "no connection" }

// The token of an event is not for logs; the event itself goes on as JSON.
func TestEventHidesItsToken(t *testing.T) {
	e := rotation.Event{Step: "setSecret", SecretID: "arn", ClientRequestToken: "v2", RotationToken: "hunter2"}
	type holder struct{ E rotation.Event }
	var b bytes.Buffer
	for _, v := range []any{e, &e, holder{e}, []rotation.Event{e}} {
		for _, format := range []string{"%v", "%+v", "%#v", "%s", "%d", "%q", "%x"} {
			fmt.Fprintf(&b, format, v)
		}
	}
	slog.New(slog.NewTextHandler(&b, nil)).Info("m", "e", e)
	slog.New(slog.NewJSONHandler(&b, nil)).Info("m", "e", e)
	if strings.Contains(b.String(), "hunter2") || strings.Contains(b.String(), fmt.Sprintf("%x", "hunter2")) || !strings.Contains(b.String(), "setSecret") {
		t.Errorf("printed: %s", b.String())
	}
	raw, err := json.Marshal(e)
	if want := `{"Step":"setSecret","SecretId":"arn","ClientRequestToken":"v2","RotationToken":"hunter2"}`; err != nil || string(raw) != want {
		t.Errorf("Marshal = %s, %v, want %s", raw, err, want)
	}
}
