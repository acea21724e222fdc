package testnet

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestAKernelWithoutNFTablesIsNamed(t *testing.T) {
	for _, errno := range []error{unix.EOPNOTSUPP, unix.EPROTONOSUPPORT, unix.ENOENT} {
		err := unavailable(fmt.Errorf("conn.Receive: netlink receive: %w", errno))
		if !strings.Contains(err.Error(), "CONFIG_NF_TABLES") || !errors.Is(err, errno) {
			t.Errorf("%v: %v", errno, err)
		}
	}
	if err := unavailable(unix.EPERM); strings.Contains(err.Error(), "CONFIG") || !errors.Is(err, unix.EPERM) {
		t.Error(err)
	}
}
