package cni

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
)

// maxRights is how many descriptors a message may bring before the kernel cuts the rest off; one is the right number.
const maxRights = 4

// receive reads one request with its descriptor. On error nothing stays open.
func receive(conn *net.UnixConn) (*Request, error) {
	buf := make([]byte, MaxMessage+1)
	oob := make([]byte, syscall.CmsgSpace(maxRights*4))
	n, oobn, flags, _, err := conn.ReadMsgUnix(buf, oob)
	if err != nil {
		return nil, fmt.Errorf("read request: %w", err)
	}
	files, err := rights(oob[:oobn])
	closeAll := func() {
		for _, f := range files {
			_ = f.Close()
		}
	}
	if err != nil {
		closeAll()
		return nil, fmt.Errorf("%w: descriptors: %w", ErrMessage, err)
	}
	r, err := checkRequest(buf[:n], flags, files)
	if err != nil {
		closeAll()
		return nil, err
	}
	return r, nil
}

func checkRequest(b []byte, flags int, files []*os.File) (*Request, error) {
	if len(b) == 0 {
		return nil, fmt.Errorf("read request: %w", io.ErrUnexpectedEOF)
	}
	if flags&(syscall.MSG_TRUNC|syscall.MSG_CTRUNC) != 0 {
		return nil, fmt.Errorf("%w: cut off", ErrMessage)
	}
	r, err := ParseRequest(b)
	if err != nil {
		return nil, err
	}
	want := 0
	if r.Command == Add || r.Command == Check {
		want = 1
	}
	if len(files) != want {
		return nil, fmt.Errorf("%w: %s with %d descriptors, not %d", ErrMessage, r.Command, len(files), want)
	}
	if want == 1 {
		if err := isNetNS(files[0]); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrMessage, err)
		}
		r.NetNS = files[0]
	}
	return r, nil
}

// rights takes the descriptors out of a control message. What it returns is open even when it also returns an error.
func rights(oob []byte) ([]*os.File, error) {
	if len(oob) == 0 {
		return nil, nil
	}
	messages, err := syscall.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, err
	}
	var files []*os.File
	var errs []error
	for i := range messages {
		fds, err := syscall.ParseUnixRights(&messages[i])
		if err != nil {
			errs = append(errs, err)
			continue
		}
		for _, fd := range fds {
			files = append(files, os.NewFile(uintptr(fd), "netns"))
		}
	}
	return files, errors.Join(errs...)
}

// Of the kernel: fs/nsfs.c and include/uapi/linux/magic.h, include/uapi/linux/nsfs.h, include/uapi/linux/sched.h.
const (
	nsfsMagic   = 0x6e736673
	nsGetNSType = 0xb703
	cloneNewNet = syscall.CLONE_NEWNET
)

// isNetNS makes sure that f is a network namespace, for a Handler enters it.
func isNetNS(f *os.File) error {
	var fs syscall.Statfs_t
	if err := syscall.Fstatfs(int(f.Fd()), &fs); err != nil {
		return fmt.Errorf("statfs of the descriptor: %w", err)
	}
	if uint32(fs.Type) != nsfsMagic {
		return errors.New("the descriptor is no namespace")
	}
	kind, _, errno := syscall.Syscall(syscall.SYS_IOCTL, f.Fd(), nsGetNSType, 0)
	if errno != 0 {
		return fmt.Errorf("namespace type: %w", errno)
	}
	if kind != cloneNewNet {
		return errors.New("the descriptor is no network namespace")
	}
	return nil
}
