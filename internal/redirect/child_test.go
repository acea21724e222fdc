package redirect

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The test binary is also the process that lives in a cgroup: with childEnv set it asks the address and ends, or waits
// for its standard input to end.
const childEnv = "REDIRECT_TEST_CHILD"

func TestMain(m *testing.M) {
	if addr, ok := os.LookupEnv(childEnv); ok {
		child(addr)
	}
	os.Exit(m.Run())
}

func child(addr string) {
	if addr == "" {
		fmt.Println("ready")
		os.Stdin.Read(make([]byte, 1))
		os.Exit(0)
	}
	runtime.LockOSThread() // the network namespace is the third descriptor, and this thread dials
	if err := unix.Setns(3, unix.CLONE_NEWNET); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	c, err := net.DialTimeout("tcp", addr, 3*time.Second)
	if err == nil {
		_, err = readLine(c)
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	os.Exit(0)
}

func childCommand(t testing.TB, cgroup, addr string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), childEnv+"="+addr)
	if cgroup != "" {
		f := must[*os.File](t)(os.Open(cgroup))
		t.Cleanup(func() { f.Close() })
		cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(f.Fd())}
	}
	return cmd
}

func childAsk(t testing.TB, cgroup string, ns *NetNS, dst netip.AddrPort) (string, error) {
	cmd := childCommand(t, cgroup, dst.String())
	cmd.ExtraFiles = []*os.File{ns.file}
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("child: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return string(out), nil
}

// childIn runs f while a process is in the cgroup.
func childIn(t testing.TB, cgroup string, f func()) error {
	cmd := childCommand(t, cgroup, "")
	in := must[io.WriteCloser](t)(cmd.StdinPipe())
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	if _, err := out.Read(make([]byte, 16)); err != nil {
		return err
	}
	f()
	in.Close()
	return cmd.Wait()
}
