package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
)

const errSharingViolation syscall.Errno = 32

// lockFile keeps a second server away from what path stands for, until it is closed or
// the process ends: nobody else can open a file that is not shared.
func lockFile(path string) (io.Closer, error) {
	name, err := syscall.UTF16PtrFromString(path)
	if err != nil {
		return nil, err
	}
	h, err := syscall.CreateFile(name, syscall.GENERIC_READ|syscall.GENERIC_WRITE, 0, nil, syscall.OPEN_ALWAYS, syscall.FILE_ATTRIBUTE_NORMAL, 0)
	if errors.Is(err, errSharingViolation) {
		return nil, fmt.Errorf("another smtestd uses the file: it holds %s", path)
	}
	if err != nil {
		return nil, &os.PathError{Op: "lock", Path: path, Err: err}
	}
	return os.NewFile(uintptr(h), path), nil
}

// syncFolder has nothing to do: Windows has no flush of a folder.
func syncFolder(string) error { return nil }
