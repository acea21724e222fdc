package socket

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// MaxState is the size in bytes of the largest state that is saved.
const MaxState = 64 << 20

const stateSeals = unix.F_SEAL_WRITE | unix.F_SEAL_GROW | unix.F_SEAL_SHRINK

// Memfd returns a sealed anonymous file with data, as SaveState wants it.
func Memfd(data []byte) (fd int, err error) {
	fd, err = unix.MemfdCreate("fairlead-state", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return -1, fmt.Errorf("create memfd: %w", err)
	}
	defer func() {
		if err != nil {
			unix.Close(fd)
			fd = -1
		}
	}()
	for off := 0; off < len(data); {
		n, err := unix.Pwrite(fd, data[off:], int64(off))
		if err != nil {
			return fd, fmt.Errorf("write memfd: %w", err)
		}
		off += n
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, stateSeals); err != nil {
		return fd, fmt.Errorf("seal memfd: %w", err)
	}
	return fd, nil
}

// ReadSealed reads a file that a proxy sent. Only a memfd has seals, so a read can neither wait for anybody (as on a
// pipe, a device or a file system in user space) nor see the bytes change under it.
func ReadSealed(fd int) ([]byte, error) {
	seals, err := unix.FcntlInt(uintptr(fd), unix.F_GET_SEALS, 0)
	if err != nil || seals&stateSeals != stateSeals {
		return nil, &Violation{Kind: BadState, Err: errors.New("not a sealed memfd")}
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, fmt.Errorf("stat memfd: %w", err)
	}
	if st.Size > MaxState {
		return nil, violate(BadState, "%d bytes, at most %d are kept", st.Size, MaxState)
	}
	data := make([]byte, st.Size)
	for off := 0; off < len(data); {
		n, err := unix.Pread(fd, data[off:], int64(off))
		if err != nil {
			return nil, fmt.Errorf("read memfd: %w", err)
		}
		if n == 0 {
			return nil, fmt.Errorf("read memfd: %w", io.ErrUnexpectedEOF)
		}
		off += n
	}
	return data, nil
}

// ReadState reads a descriptor that LoadState returned, and closes it.
func ReadState(fd int) ([]byte, error) {
	f := os.NewFile(uintptr(fd), "state")
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, MaxState+1))
	if err != nil {
		return nil, fmt.Errorf("read state: %w", err)
	}
	if len(data) > MaxState {
		return nil, fmt.Errorf("read state: more than %d bytes", MaxState)
	}
	return data, nil
}
