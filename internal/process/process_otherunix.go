//go:build unix && !linux

package process

import (
	"io"
	"os/exec"
	"strconv"
	"syscall"
)

// startTied starts cmd so that it ends when we end. Without Linux's death
// signal that takes a second child: a shell that reads from a pipe of which we
// hold the other end, and that signals cmd when the pipe closes.
func startTied(cmd *exec.Cmd, death syscall.Signal) (release func(), err error) {
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	watch := exec.Command("/bin/sh", "-c", `read -r _; kill -"$1" "$0"`, strconv.Itoa(cmd.Process.Pid), strconv.Itoa(int(death))) //nolint:noctx // ends with cmd
	watch.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	in, err := watch.StdinPipe()
	if err == nil {
		err = watch.Start()
	}
	if err != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		return nil, err
	}
	return func() { endWatch(watch, in) }, nil
}

// endWatch kills the shell before its pipe closes: by now the number it would
// signal may be another's.
func endWatch(watch *exec.Cmd, in io.Closer) {
	_ = watch.Process.Kill()
	_ = watch.Wait()
	_ = in.Close()
}
