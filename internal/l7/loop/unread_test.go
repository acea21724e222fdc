package loop

import (
	"io"
	"net"
	"testing"
)

// TestUnread: a connection says whether the kernel has something for it that it has not read, and takes nothing of it.
func TestUnread(t *testing.T) {
	for name, tt := range map[string]struct {
		come func(c *net.TCPConn)
		want bool
	}{
		"nothing": {func(*net.TCPConn) {}, false},
		"a byte":  {func(c *net.TCPConn) { io.WriteString(c, "x") }, true},
		"an end":  {func(c *net.TCPConn) { c.CloseWrite() }, true},
		"a reset": {func(c *net.TCPConn) { c.SetLinger(0); c.Close() }, true},
	} {
		t.Run(name, func(t *testing.T) {
			l := start(t)
			c, s := pair(t)
			e := newEcho()
			l.Attach(s, nil, e.start)
			got := make(chan [2]bool)
			l.Post(func() {
				tt.come(c)
				got <- [2]bool{e.t.Unread(), e.t.Unread()}
			})
			if got := <-got; got != [2]bool{tt.want, tt.want} {
				t.Errorf("%v, want %v twice", got, tt.want)
			}
		})
	}
}
