package mysqlserver

// Find is what Start looks with.
var Find = find
