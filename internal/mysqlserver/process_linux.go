package mysqlserver

import (
	"os/exec"
	"syscall"
)

// startTied starts cmd so that it ends when the calling thread ends, however
// that comes about: the kernel sends the signal. The servers have nothing to give
// back, and a clean end takes them longer than anybody waits for it here.
func startTied(cmd *exec.Cmd) (release func(), err error) {
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	return func() {}, cmd.Start()
}
