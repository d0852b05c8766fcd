package process

import (
	"os/exec"
	"syscall"
)

// startTied starts cmd so that it ends when the calling thread ends, however
// that comes about: the kernel sends the signal.
func startTied(cmd *exec.Cmd, death syscall.Signal) (release func(), err error) {
	cmd.SysProcAttr.Pdeathsig = death
	return func() {}, cmd.Start()
}
