package smtest_test

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sm "github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"

	"github.com/keyturn/keyturn/smtest"
)

// list returns the names of the secrets on all pages, in their order.
func list(t *testing.T, c *sm.Client, in *sm.ListSecretsInput) string {
	t.Helper()
	var names []string
	for pages := sm.NewListSecretsPaginator(c, in); pages.HasMorePages(); {
		page, err := pages.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if in.MaxResults != nil && len(page.SecretList) > int(*in.MaxResults) {
			t.Errorf("a page of %d secrets, want at most %d", len(page.SecretList), *in.MaxResults)
		}
		for _, s := range page.SecretList {
			names = append(names, *s.Name)
		}
	}
	return strings.Join(names, " ")
}

// What a filter finds. The rows with the author's name in them are what AWS
// answered: LocalStack's test_list_secrets_filtering and moto's test_list_secrets.py.
func TestFilters(t *testing.T) {
	srv, c := newServer(t)
	for _, s := range []sm.CreateSecretInput{
		{Name: aws.String("testing1/one"), Description: aws.String("a secret")},
		{Name: aws.String("/testing2/two"), Description: aws.String("an secret")},
		{Name: aws.String("testing3/three"), Description: aws.String("asecret")},
		{Name: aws.String("/testing4/four"), Description: aws.String("thesecret")},
		{Name: aws.String("SecretTwo"), Description: aws.String("DescTwo"), Tags: tags("env", "Prod")},
		{Name: aws.String("SecretFTag"), Tags: tags("1", "foo", "env", "test")},
		{Name: aws.String("prod+AppBeta+x1"), Tags: tags("foo", "v")},
		{Name: aws.String("uat/COMPANY/x1")},
		{Name: aws.String("uat/COMPANYthings/x2")},
		{Name: aws.String("prod-AppBeta/x3"), AddReplicaRegions: regions("eu-west-1")},
	} {
		if _, err := c.CreateSecret(t.Context(), &s); err != nil {
			t.Fatal(err)
		}
	}
	srv.Put("rds!db-1", "managed")
	const (
		one, two, three, four     = "testing1/one ", "/testing2/two ", "testing3/three ", "/testing4/four "
		secretTwo, tagged, plus   = "SecretTwo ", "SecretFTag ", "prod+AppBeta+x1 "
		upper, partly, mixed, rds = "uat/COMPANY/x1 ", "uat/COMPANYthings/x2 ", "prod-AppBeta/x3 ", "rds!db-1 "
		everything                = one + two + three + four + secretTwo + tagged + plus + upper + partly + mixed + rds
	)
	for _, tt := range []struct {
		filters []types.Filter
		want    string
	}{
		{nil, everything},
		// LocalStack
		{filters("name", "/"), two + four},
		{filters("name", "!/"), one + three + secretTwo + tagged + plus + upper + partly + mixed + rds},
		{filters("name", "testing1 one"), ""},
		{filters("description", "a"), one + two + three},
		{filters("description", "!a"), four + secretTwo + tagged + plus + upper + partly + mixed + rds},
		{filters("description", "a secret"), one + two},
		{append(filters("description", "a"), filters("name", "secret")...), ""},
		{append(filters("description", "a"), filters("description", "secret")...), one + two},
		// moto
		{filters("all", "SecretTwo"), secretTwo},
		{filters("all", "foo"), tagged + plus},
		{filters("all", "Secret"), one + two + secretTwo + tagged},
		{filters("all", "ret"), ""},
		{filters("all", "sec"), one + two + secretTwo + tagged},
		{filters("all", "SomeSecret"), ""},
		{filters("all", "d t"), secretTwo},
		{filters("all", "AppBeta"), plus},
		{filters("all", "Beta"), plus},
		{filters("all", "AppBeta", "prod"), secretTwo + plus + mixed},
		{filters("all", "+"), ""},
		{filters("all", "company"), upper},
		{filters("all", "things"), ""},
		{filters("all", "Ythings"), partly},
		{filters("all", "N"), ""},
		{filters("all", "pany"), ""},
		{filters("primary-region", "us-east-1"), mixed},
		{filters("primary-region", "eu"), ""},
		// By the API Reference.
		{filters("name", "Secret"), secretTwo + tagged},
		{filters("name", "secret"), ""},
		{filters("name", "Secret", "prod+"), secretTwo + tagged + plus},
		{filters("name", "Secret", "!u"), one + two + three + four + secretTwo + tagged + plus + mixed + rds},
		{filters("description", "DESC"), secretTwo},
		{filters("tag-key", "e"), secretTwo + tagged},
		{filters("tag-key", "E"), ""},
		{filters("tag-key", "!e"), one + two + three + four + plus + upper + partly + mixed + rds},
		{filters("tag-value", "P"), secretTwo},
		{append(filters("tag-key", "env"), filters("tag-value", "foo")...), tagged},
		{filters("owning-service", "rds"), rds},
		{filters("owning-service", "r"), rds},
		{filters("owning-service", "R"), ""},
		{filters("all", "!prod", "testing1/one"), one + two + three + four + tagged + upper + partly + rds},
	} {
		if got := list(t, c, &sm.ListSecretsInput{Filters: tt.filters}); got != strings.TrimSpace(tt.want) {
			t.Errorf("filters %s\n got %s\nwant %s", filterText(tt.filters), got, tt.want)
		}
	}
	west := srv.Client(inRegion("eu-west-1"))
	if got := list(t, west, &sm.ListSecretsInput{Filters: filters("primary-region", "us-east-1")}); got != "prod-AppBeta/x3" {
		t.Errorf("replicas = %q", got)
	}
}

// Where names are split into words. What is searched for is split likewise.
func TestFilterWords(t *testing.T) {
	for name, queries := range map[string]struct{ found, not string }{
		"test":           {"test tes t TEST", "est tests"},
		"MyTestPhrase":   {"my test phrase MyPhrase PhraseMy ph", "mytest yTest"},
		"myTest":         {"my test MyTest", "mytest"},
		"Mytest":         {"my mytest", "test MyTest"},
		"MYTest":         {"m my te", "y ytest"},
		"appQ":           {"app q appQ", "appq"},
		"a/b/c":          {"a b c a/b c+b /a", "a/b+c bc"},
		"a/b_c":          {"a a/ a/b_c", "b c b_c a/b"},
		"uat/COMPANYnow": {"uat compan ynow COMPANYnow", "company now"},
	} {
		srv, c := newServer(t)
		srv.Put(name, "x")
		for want, words := range map[string]string{name: queries.found, "": queries.not} {
			for query := range strings.FieldsSeq(words) {
				if got := list(t, c, &sm.ListSecretsInput{Filters: filters("all", query)}); got != want {
					t.Errorf("%s, search for %s: found %q, want %q", name, query, got, want)
				}
			}
		}
	}
}

func filterText(filters []types.Filter) string {
	var out []string
	for _, f := range filters {
		out = append(out, string(f.Key)+"="+strings.Join(f.Values, ","))
	}
	return strings.Join(out, " and ")
}

func TestListSecretsErrors(t *testing.T) {
	srv, c := newServer(t)
	const oneToTen = "ValidationException: 1 validation error detected: Value at 'filters' failed to satisfy constraint: Member must have length less than or equal to 10"
	for name, tt := range map[string]struct {
		in   *sm.ListSecretsInput
		want string
	}{
		"key":          {&sm.ListSecretsInput{Filters: filters("", "x")}, "InvalidParameterException: Invalid filter key"},
		"values":       {&sm.ListSecretsInput{Filters: filters("name")}, "InvalidParameterException: Invalid filter values for key: name"},
		"many values":  {&sm.ListSecretsInput{Filters: filters("name", strings.Split("a,b,c,d,e,f,g,h,i,j,k", ",")...)}, oneToTen},
		"many filters": {&sm.ListSecretsInput{Filters: slices.Repeat(filters("name", "x"), 11)}, oneToTen},
		"no such key": {
			&sm.ListSecretsInput{Filters: filters("colour", "x")},
			"ValidationException: 1 validation error detected: Value at 'filters' failed to satisfy constraint: Member must satisfy enum value set: [description, name, tag-key, tag-value, primary-region, owning-service, all]",
		},
		"empty value": {
			&sm.ListSecretsInput{Filters: filters("name", "")},
			"ValidationException: 1 validation error detected: Value at 'filters' failed to satisfy constraint: Member must have length greater than or equal to 1",
		},
		"few": {
			&sm.ListSecretsInput{MaxResults: aws.Int32(0)},
			"ValidationException: 1 validation error detected: Value at 'maxResults' failed to satisfy constraint: Member must have value greater than or equal to 1",
		},
		"many": {
			&sm.ListSecretsInput{MaxResults: aws.Int32(101)},
			"ValidationException: 1 validation error detected: Value at 'maxResults' failed to satisfy constraint: Member must have value less than or equal to 100",
		},
		"sort by": {
			&sm.ListSecretsInput{SortBy: "x"},
			"ValidationException: 1 validation error detected: Value at 'sortBy' failed to satisfy constraint: Member must satisfy enum value set: [created-date, last-accessed-date, last-changed-date, name]",
		},
		"sort order": {
			&sm.ListSecretsInput{SortOrder: "x"},
			"ValidationException: 1 validation error detected: Value at 'sortOrder' failed to satisfy constraint: Member must satisfy enum value set: [asc, desc]",
		},
	} {
		_, err := c.ListSecrets(t.Context(), tt.in)
		if got := apiError(err); got != tt.want {
			t.Errorf("%s\n got %s\nwant %s", name, got, tt.want)
		}
	}
	// Tokens of other lists, and what is none.
	for i := range 3 {
		srv.Put(fmt.Sprint("s", i), "x")
	}
	page, err := c.ListSecrets(t.Context(), &sm.ListSecretsInput{MaxResults: aws.Int32(2)})
	if err != nil || page.NextToken == nil {
		t.Fatalf("ListSecrets = %+v, %v", page, err)
	}
	const invalid = "InvalidNextTokenException: Invalid NextToken."
	good := *page.NextToken
	decoded, err := base64.RawURLEncoding.DecodeString(good)
	if err != nil {
		t.Fatal(err)
	}
	changed := base64.RawURLEncoding.EncodeToString(bytes.Replace(decoded, []byte(`"s":2`), []byte(`"s":3`), 1))
	if changed == good {
		t.Fatalf("the token %s does not say where the page ended", decoded)
	}
	for _, in := range []sm.ListSecretsInput{
		{NextToken: aws.String("rubbish")},
		{NextToken: aws.String("!")},
		{NextToken: aws.String(good[1:])},
		{NextToken: aws.String("A" + good[1:])},
		{NextToken: aws.String(changed)},
		{NextToken: aws.String(good), SortBy: "name"},
		{NextToken: aws.String(good), SortOrder: "desc"},
	} {
		_, err := c.ListSecrets(t.Context(), &in)
		wantError(t, err, invalid)
	}
	_, err = c.ListSecretVersionIds(t.Context(), &sm.ListSecretVersionIdsInput{SecretId: aws.String("s0"), NextToken: aws.String(good)})
	wantError(t, err, invalid)
}

func TestSortOrders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, c := newServer(t)
		day := 24 * time.Hour
		for _, name := range []string{"b", "c", "a", "d"} {
			srv.Put(name, "one")
			time.Sleep(day)
		}
		for _, name := range []string{"c", "a", "b"} {
			wantValue(t, c, name, "one")
			time.Sleep(day)
		}
		for _, name := range []string{"d", "b"} {
			srv.Put(name, "two")
			time.Sleep(day)
		}
		for _, tt := range []struct{ by, asc string }{
			{"", "b c a d"},
			{"created-date", "b c a d"},
			{"name", "a b c d"},
			{"last-accessed-date", "d c a b"}, // d never was
			{"last-changed-date", "c a d b"},
		} {
			for _, size := range []int32{1, 2, 3, 100} {
				in := sm.ListSecretsInput{SortBy: types.SortByType(tt.by), MaxResults: aws.Int32(size)}
				desc := strings.Fields(tt.asc)
				slices.Reverse(desc)
				for order, want := range map[types.SortOrderType]string{"": tt.asc, "asc": tt.asc, "desc": strings.Join(desc, " ")} {
					in.SortOrder = order
					if got := list(t, c, &in); got != want {
						t.Errorf("by %q, %q, %d a page: %q, want %q", tt.by, order, size, got, want)
					}
				}
			}
		}
		// Reading and writing moves them.
		wantValue(t, c, "d", "two")
		srv.Put("c", "two")
		if got := list(t, c, &sm.ListSecretsInput{SortBy: "last-accessed-date"}); got != "c a b d" {
			t.Errorf("by last-accessed-date: %q", got)
		}
		if got := list(t, c, &sm.ListSecretsInput{SortBy: "last-changed-date"}); got != "a d b c" {
			t.Errorf("by last-changed-date: %q", got)
		}
	})
}

// Secrets made in one instant are listed in the order in which they were made.
func TestListOrderWithinAnInstant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, c := newServer(t)
		var want []string
		for i := range 50 {
			name := fmt.Sprint("s", (i*7)%50)
			srv.Put(name, "x")
			want = append(want, name)
		}
		if got := list(t, c, &sm.ListSecretsInput{MaxResults: aws.Int32(7)}); got != strings.Join(want, " ") {
			t.Errorf("got  %s\nwant %s", got, strings.Join(want, " "))
		}
	})
}

// A list that changes between its pages skips none that was there all the time.
func TestListChangesBetweenPages(t *testing.T) {
	srv, c := newServer(t)
	for i := range 6 {
		srv.Put(fmt.Sprint("s", i), "x")
	}
	first, err := c.ListSecrets(t.Context(), &sm.ListSecretsInput{MaxResults: aws.Int32(3)})
	if err != nil {
		t.Fatal(err)
	}
	for _, gone := range []string{"s1", "s2", "s4"} {
		in := &sm.DeleteSecretInput{SecretId: aws.String(gone), ForceDeleteWithoutRecovery: aws.Bool(true)}
		if _, err := c.DeleteSecret(t.Context(), in); err != nil {
			t.Fatal(err)
		}
	}
	srv.Put("s6", "x")
	second, err := c.ListSecrets(t.Context(), &sm.ListSecretsInput{NextToken: first.NextToken})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range second.SecretList {
		got = append(got, *s.Name)
	}
	if fmt.Sprint(got) != "[s3 s5 s6]" || second.NextToken != nil {
		t.Errorf("second page = %v, token %v", got, second.NextToken)
	}
}

func TestListDeleted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, c := newServer(t)
		srv.Put("kept", "x")
		srv.Put("deleted", "x")
		if _, err := c.DeleteSecret(t.Context(), &sm.DeleteSecretInput{SecretId: aws.String("deleted"), RecoveryWindowInDays: aws.Int64(7)}); err != nil {
			t.Fatal(err)
		}
		all := &sm.ListSecretsInput{IncludePlannedDeletion: aws.Bool(true)}
		if got := list(t, c, &sm.ListSecretsInput{}); got != "kept" {
			t.Errorf("list = %q", got)
		}
		if got := list(t, c, all); got != "kept deleted" {
			t.Errorf("list with deleted = %q", got)
		}
		time.Sleep(7 * 24 * time.Hour)
		if got := list(t, c, all); got != "kept" {
			t.Errorf("list after the recovery window = %q", got)
		}
		if _, err := c.DeleteSecret(t.Context(), &sm.DeleteSecretInput{SecretId: aws.String("kept"), ForceDeleteWithoutRecovery: aws.Bool(true)}); err != nil {
			t.Fatal(err)
		}
		if got := list(t, c, all); got != "" {
			t.Errorf("list after a forced delete = %q", got)
		}
		srv.Put("new", "x")
		if got := list(t, c, all); got != "new" {
			t.Errorf("list after a new secret = %q", got)
		}
	})
}

func TestBatchByFilters(t *testing.T) {
	srv, c := newServer(t)
	for i := range 23 {
		srv.Put(fmt.Sprintf("app/%02d", i), fmt.Sprint("value ", i))
	}
	srv.Put("other", "x")
	if _, err := c.CreateSecret(t.Context(), &sm.CreateSecretInput{Name: aws.String("app/empty")}); err != nil {
		t.Fatal(err)
	}
	var got []string
	var failed []string
	var sizes []int
	for pages := sm.NewBatchGetSecretValuePaginator(c, &sm.BatchGetSecretValueInput{Filters: filters("name", "app/")}); pages.HasMorePages(); {
		page, err := pages.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		sizes = append(sizes, len(page.SecretValues)+len(page.Errors))
		for _, v := range page.SecretValues {
			got = append(got, *v.SecretString)
		}
		for _, e := range page.Errors {
			failed = append(failed, *e.ErrorCode+": "+*e.Message)
		}
	}
	if len(got) != 23 || got[0] != "value 0" || got[22] != "value 22" || !slices.Equal(sizes, []int{20, 4}) {
		t.Errorf("%d values, pages of %v: %v", len(got), sizes, got)
	}
	want := []string{"ResourceNotFoundException: Secrets Manager can't find the specified secret value for staging label: AWSCURRENT"}
	if !slices.Equal(failed, want) {
		t.Errorf("errors = %q, want %q", failed, want)
	}
	for _, tt := range []struct {
		in   sm.BatchGetSecretValueInput
		want string
	}{
		{sm.BatchGetSecretValueInput{}, "InvalidParameterException: Either 'SecretIdList' or 'Filters' must be provided, but not both."},
		{sm.BatchGetSecretValueInput{SecretIdList: []string{"other"}, Filters: filters("name", "app/")}, "InvalidParameterException: Either 'SecretIdList' or 'Filters' must be provided, but not both."},
		{sm.BatchGetSecretValueInput{SecretIdList: []string{"other"}, MaxResults: aws.Int32(1)}, "InvalidParameterException: 'Filters' not specified. 'Filters' must also be specified when 'MaxResults' is provided."},
		{sm.BatchGetSecretValueInput{SecretIdList: []string{"other"}, NextToken: aws.String("x")}, "InvalidParameterException: 'Filters' not specified. 'Filters' must also be specified when 'NextToken' is provided."},
		{sm.BatchGetSecretValueInput{Filters: filters("name", "app/"), NextToken: aws.String("x")}, "InvalidNextTokenException: Invalid NextToken."},
		{sm.BatchGetSecretValueInput{Filters: filters("name", "app/"), MaxResults: aws.Int32(21)}, "ValidationException: 1 validation error detected: Value at 'maxResults' failed to satisfy constraint: Member must have value less than or equal to 20"},
	} {
		_, err := c.BatchGetSecretValue(t.Context(), &tt.in)
		wantError(t, err, tt.want)
	}
}

func TestVersionPages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, c := newServer(t)
		create(t, c, "s", "v0", "0")
		for i := 1; i < 7; i++ {
			if i%2 == 0 {
				time.Sleep(time.Second) // Two at a time.
			}
			if err := put(t.Context(), c, "s", fmt.Sprint("v", i), "x", fmt.Sprint("l", i)); err != nil {
				t.Fatal(err)
			}
		}
		for size := int32(1); size < 9; size++ {
			var got []string
			in := &sm.ListSecretVersionIdsInput{SecretId: aws.String("s"), MaxResults: aws.Int32(size)}
			for pages := sm.NewListSecretVersionIdsPaginator(c, in); pages.HasMorePages(); {
				page, err := pages.NextPage(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if len(page.Versions) > int(size) {
					t.Errorf("a page of %d versions, want %d", len(page.Versions), size)
				}
				for _, v := range page.Versions {
					got = append(got, short(*v.VersionId))
				}
			}
			if fmt.Sprint(got) != "[v0 v1 v2 v3 v4 v5 v6]" {
				t.Errorf("%d a page: %v", size, got)
			}
		}
	})
}

// Another server's secret is listed nowhere else.
func TestListsAreSeparate(t *testing.T) {
	srv, c := newServer(t)
	srv.Put("s", "x")
	for name, other := range map[string]*sm.Client{
		"region":  srv.Client(inRegion("eu-west-1")),
		"account": srv.Client(srv.AddCaller(smtest.Caller{ARN: user(stranger)})),
	} {
		if got := list(t, other, &sm.ListSecretsInput{}); got != "" {
			t.Errorf("another %s lists %q", name, got)
		}
	}
	if got := list(t, c, &sm.ListSecretsInput{}); got != "s" {
		t.Errorf("list = %q", got)
	}
}
