package pgserver

// FindBinaries is what Start looks with.
var FindBinaries = findBinaries
