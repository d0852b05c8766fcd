package main_test

func stopServers() {}
