package mysql_test

import (
	"slices"
	"testing"

	"github.com/keyturn/keyturn/rotation/mysql"
)

// Rows as they are written by servers that are not here: MySQL 8.0 and 5.7, Amazon
// RDS, Aurora, and other versions of MariaDB.
func TestShowGrants(t *testing.T) {
	for _, test := range []struct {
		name string
		rows []string
		want []string // nil: an error
	}{
		{"nothing", []string{"GRANT USAGE ON *.* TO `app`@`%`"}, []string{}},
		{
			"MySQL 8.0",
			[]string{
				"GRANT SELECT, CREATE TEMPORARY TABLES ON *.* TO `app`@`%` WITH GRANT OPTION",
				"GRANT BACKUP_ADMIN,XA_RECOVER_ADMIN ON *.* TO `app`@`%`",
				"GRANT ROLE_ADMIN ON *.* TO `app`@`%` WITH GRANT OPTION",
				"GRANT `rds_superuser_role`@`%`,`r``2`@`%` TO `app`@`%` WITH ADMIN OPTION",
				"REVOKE SELECT, UPDATE ON `mysql`.* FROM `app`@`%`",
				"GRANT PROXY ON ``@`` TO `app`@`%` WITH GRANT OPTION",
			},
			[]string{
				"BACKUP_ADMIN ON *.*", "CREATE TEMPORARY TABLES ON *.*", "GRANT OPTION ON *.*", "ROLE_ADMIN ON *.* WITH GRANT OPTION",
				"SELECT ON *.*", "XA_RECOVER_ADMIN ON *.*", "not SELECT ON `mysql`.*", "not UPDATE ON `mysql`.*",
				"role `r``2`@`%` WITH ADMIN OPTION", "role `rds_superuser_role`@`%` WITH ADMIN OPTION", "PROXY ON ``@`` WITH GRANT OPTION",
			},
		},
		{
			"Aurora's privileges",
			[]string{"GRANT SELECT, LOAD FROM S3, SELECT INTO S3, INVOKE LAMBDA ON *.* TO `app`@`%`"},
			[]string{"INVOKE LAMBDA ON *.*", "LOAD FROM S3 ON *.*", "SELECT ON *.*", "SELECT INTO S3 ON *.*"},
		},
		{
			"single quotes, before MySQL 8",
			[]string{"GRANT SELECT ON `d`.* TO 'app'@'%'", "GRANT PROXY ON ''@'' TO 'app'@'%'"},
			[]string{"SELECT ON `d`.*", "PROXY ON ``@``"},
		},
		{
			"MariaDB",
			[]string{
				"GRANT `r` TO `app`@`%`",
				"GRANT BINLOG ADMIN, READ_ONLY ADMIN ON *.* TO `app`@`%` IDENTIFIED VIA ed25519 USING 'GRANT OPTION' OR unix_socket REQUIRE SUBJECT ' WITH GRANT OPTION' WITH MAX_USER_CONNECTIONS 5",
				"GRANT EXECUTE ON PACKAGE BODY `d`.`p` TO `app`@`%` WITH GRANT OPTION",
				"GRANT SELECT (`a,b`, `c``)`) ON `d`.`t.u` TO `app`@`%`",
				"SET DEFAULT ROLE `r` FOR `app`@`%`",
			},
			[]string{
				"BINLOG ADMIN ON *.*", "READ_ONLY ADMIN ON *.*", "EXECUTE ON PACKAGE BODY `d`.`p`", "GRANT OPTION ON PACKAGE BODY `d`.`p`",
				"SELECT (`a,b`) ON `d`.`t.u`", "SELECT (`c``)`) ON `d`.`t.u`", "role `r`", "default role `r`",
			},
		},
		{
			"others'",
			[]string{"GRANT SELECT ON `d`.* TO `r`", "GRANT SELECT ON `d`.`t` TO PUBLIC", "GRANT `a` TO `r`", "GRANT SELECT ON `d`.* TO `app`@`localhost`"},
			[]string{},
		},
		{"no row", []string{""}, nil},
		{"not a grant", []string{"FLUSH PRIVILEGES"}, nil},
		{"of an unknown kind", []string{"GRANT SELECT ON SERVER `s` TO `app`@`%`"}, nil},
		{"of an unknown form", []string{"GRANT SELECT UPTO 5 ROWS, (x) ON `d`.* TO `app`@`%`"}, nil},
		{"cut off", []string{"GRANT SELECT ON `d`.`t"}, nil},
		{"cut off in columns", []string{"GRANT SELECT (`a`, "}, nil},
		{"cut off in roles", []string{"GRANT `a`,"}, nil},
		{"a default role for somebody else", []string{"SET DEFAULT ROLE `r` FOR `x`@`%`"}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := mysql.Rights("app", "%", test.rows...)
			if (err == nil) != (test.want != nil) || err == nil && !slices.Equal(got, test.want) {
				t.Errorf("got  %q, %v\nwant %q", got, err, test.want)
			}
		})
	}
}

func TestShowCreateUser(t *testing.T) {
	for row, want := range map[string]string{
		"CREATE USER `app`@`%` IDENTIFIED BY PASSWORD '*AB' REQUIRE SSL":                                             "mysql_native_password USING '*AB'",
		"CREATE USER `app`@`%` IDENTIFIED VIA unix_socket OR mysql_native_password USING '*A' OR ed25519 USING 'q/'": "unix_socket OR mysql_native_password USING '*A' OR ed25519 USING 'q/'",
		"CREATE USER `a OR b`@`%` IDENTIFIED VIA pam USING 'it''s' WITH MAX_USER_CONNECTIONS 3":                      "pam USING 'it''s'",
		"CREATE USER `app`@`%`": "mysql_native_password",
		"CREATE USER `app`@`%` REQUIRE SUBJECT ' IDENTIFIED VIA '": "mysql_native_password",
		"CREATE ROLE `app`":                        "",
		"CREATE USER app":                          "",
		"CREATE USER `app`@`%` IDENTIFIED VIA 'x'": "",
	} {
		if got, err := mysql.Authentication(row); got != want && err == nil || (err == nil) != (want != "") {
			t.Errorf("Authentication(%s) = %q, %v, want %q", row, got, err, want)
		}
	}
}

func FuzzShowGrants(f *testing.F) {
	f.Add("GRANT SELECT (`a`), UPDATE ON PROCEDURE `d`.`p` TO `app`@`%` WITH GRANT OPTION")
	f.Add("GRANT `a`@`b`,`c` TO 'app'@'%' WITH ADMIN OPTION")
	f.Add("CREATE USER `app`@`%` IDENTIFIED VIA a USING 'b' OR c")
	f.Fuzz(func(_ *testing.T, row string) {
		_, _ = mysql.Rights("app", "%", row) // it does not panic, and comes to an end
		_, _ = mysql.Authentication(row)
	})
}

func TestVersions(t *testing.T) {
	for version, want := range map[string][2]bool{
		"8.0.13":                 {false, false},
		"8.0.14":                 {false, true},
		"8.0.39-log":             {false, true},
		"9.7.4-2":                {false, true},
		"5.7.44-log":             {false, false},
		"10.3.39-MariaDB":        {true, false},
		"10.4.34-MariaDB-log":    {true, true},
		"11.8.2-MariaDB-ubu2404": {true, true},
		"what somebody calls it": {false, false},
	} {
		if isMariaDB, dual := mysql.Version(version); [2]bool{isMariaDB, dual} != want {
			t.Errorf("Version(%q) = %t, %t, want %v", version, isMariaDB, dual, want)
		}
	}
}
