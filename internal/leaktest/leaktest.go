// Package leaktest finds out whether a value gives a secret away to something
// that prints. Only tests import it.
package leaktest

import (
	"bytes"
	"encoding/base64"
	"encoding/gob"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"html/template"
	"io"
	"log/slog"
	"net/url"
	"reflect"
	"strings"
	"testing"
	texttemplate "text/template"
)

// Check reports, as errors of t, every way of printing v that shows secret: v
// itself, a pointer to it, and v in structs, exported field or not, in slices,
// maps and interfaces; every verb and flag of fmt, slog's handlers, the encoders
// of the standard library and its templates. It also walks v by reflection, as
// the printers of debuggers and of test libraries do.
func Check[T any](t *testing.T, secret string, v T) {
	t.Helper()
	type exported struct{ V T }
	type unexported struct{ v T }
	type pointer struct{ v *T }
	type boxed struct{ v any }
	type deep struct{ v map[string][]*unexported }
	shapes := map[string]any{
		"value":         v,
		"pointer":       &v,
		"field":         exported{v},
		"hidden field":  unexported{v},
		"*hidden field": &unexported{v},
		"pointer field": pointer{&v},
		"in an any":     boxed{v},
		"slice":         []T{v},
		"map":           map[string]T{"k": v},
		"deep":          deep{map[string][]*unexported{"k": {{v}}}},
	}
	forms := forms(secret)
	for shape, value := range shapes {
		for how, print := range printers() {
			var b bytes.Buffer
			print(&b, value)
			for form, text := range forms {
				if strings.Contains(b.String(), text) {
					t.Errorf("%T as %s, printed by %s, shows the secret (%s)", v, shape, how, form)
				}
			}
		}
	}
	walk(t, secret, reflect.ValueOf(&v), reflect.TypeFor[T]().String(), make(map[any]bool))
}

// forms returns the texts in which a secret may show.
func forms(secret string) map[string]string {
	return map[string]string{
		"plain":   secret,
		"base64":  strings.TrimRight(base64.StdEncoding.EncodeToString([]byte(secret)), "="),
		"hex":     hex.EncodeToString([]byte(secret)),
		"HEX":     strings.ToUpper(hex.EncodeToString([]byte(secret))),
		"URL":     url.QueryEscape(secret),
		"decimal": strings.Trim(fmt.Sprintf("%d", []byte(secret)), "[]"),
	}
}

// printers returns every way to print there is.
func printers() map[string]func(io.Writer, any) {
	printers := map[string]func(io.Writer, any){
		"slog text": func(w io.Writer, v any) { slog.New(slog.NewTextHandler(w, nil)).Info("m", "v", v) },
		"slog json": func(w io.Writer, v any) { slog.New(slog.NewJSONHandler(w, nil)).Info("m", "v", v) },
		"json":      func(w io.Writer, v any) { report(w, json.NewEncoder(w).Encode(v)) },
		"xml":       func(w io.Writer, v any) { report(w, xml.NewEncoder(w).Encode(v)) },
		"gob":       func(w io.Writer, v any) { report(w, gob.NewEncoder(w).Encode(v)) },
		"template": func(w io.Writer, v any) {
			report(w, texttemplate.Must(texttemplate.New("").Parse(`{{.}} {{printf "%#v" .}}`)).Execute(w, v))
		},
		"html template": func(w io.Writer, v any) {
			report(w, template.Must(template.New("").Parse(`{{.}}<script>{{.}}</script>`)).Execute(w, v))
		},
		"println": func(w io.Writer, v any) { _, _ = fmt.Fprintln(w, v) },
		"panic": func(w io.Writer, v any) {
			defer func() { _, _ = fmt.Fprint(w, recover()) }()
			panic(v)
		},
	}
	for _, flag := range []string{"", "+", "#", " ", "-", "0", "+#", "# ", "9.9"} {
		for verb := 'A'; verb <= 'z'; verb++ {
			if verb > 'Z' && verb < 'a' {
				continue
			}
			format := "%" + flag + string(verb)
			printers[format] = func(w io.Writer, v any) { _, _ = fmt.Fprintf(w, format, v) }
		}
	}
	return printers
}

// report prints an encoder's error too: it may quote what it could not encode.
func report(w io.Writer, err error) {
	if err != nil {
		_, _ = io.WriteString(w, err.Error())
	}
}

// walk looks at everything that reflection reaches from v.
func walk(t *testing.T, secret string, v reflect.Value, path string, seen map[any]bool) {
	t.Helper()
	switch v.Kind() {
	case reflect.String:
		if strings.Contains(v.String(), secret) {
			t.Errorf("reflection finds the secret at %s", path)
		}
	case reflect.Pointer, reflect.Interface:
		if v.IsNil() {
			return
		}
		if v.Kind() == reflect.Pointer {
			if key := [2]any{v.Pointer(), v.Type()}; seen[key] || foreign(v.Type().Elem()) {
				return
			} else {
				seen[key] = true
			}
		}
		walk(t, secret, v.Elem(), path, seen)
	case reflect.Struct:
		if foreign(v.Type()) {
			return
		}
		for i := range v.NumField() {
			walk(t, secret, v.Field(i), path+"."+v.Type().Field(i).Name, seen)
		}
	case reflect.Slice, reflect.Array:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			if v.CanAddr() || v.Kind() == reflect.Slice {
				if bytes.Contains(v.Bytes(), []byte(secret)) {
					t.Errorf("reflection finds the secret at %s", path)
				}
			}
			return
		}
		for i := range v.Len() {
			walk(t, secret, v.Index(i), path+"[]", seen)
		}
	case reflect.Map:
		for iter := v.MapRange(); iter.Next(); {
			walk(t, secret, iter.Key(), path+"[key]", seen)
			walk(t, secret, iter.Value(), path+"[]", seen)
		}
	}
}

// foreign reports whether a type is the other side: the service and its client,
// which have the secret by trade.
func foreign(t reflect.Type) bool {
	return strings.Contains(t.PkgPath(), "/smtest") || strings.Contains(t.PkgPath(), "aws-sdk-go-v2")
}
