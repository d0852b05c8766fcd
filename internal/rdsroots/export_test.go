package rdsroots

var (
	PEM    = roots
	Beside = beside
)
