package pgserver

import (
	"os/exec"
	"syscall"
)

// startTied starts cmd so that it ends when the calling thread ends, however
// that comes about: the kernel sends the signal. SIGQUIT is PostgreSQL's
// immediate shutdown, which gives back its shared memory; after SIGKILL a
// segment would stay until the next boot.
func startTied(cmd *exec.Cmd) (release func(), err error) {
	cmd.SysProcAttr.Pdeathsig = syscall.SIGQUIT
	return func() {}, cmd.Start()
}
