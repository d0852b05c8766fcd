package mssql

// NewDriver is what Open gives package dbconn.
var NewDriver = newDriver
