package load

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"time"
)

// Hold makes connections one after the other, each with one request, calls ready, and holds them until the context ends.
func Hold(ctx context.Context, p Pace, ready func()) (err error) {
	var conns []net.Conn
	defer func() {
		for _, c := range conns {
			err = errors.Join(err, c.Close())
		}
	}()
	request := head(p.Path, p.Host, p.Fields)
	for i := range p.Connections {
		d := net.Dialer{Timeout: 5 * time.Second}
		c, err := d.DialContext(ctx, "tcp", p.Addr)
		if err != nil {
			return fmt.Errorf("connection %d: %w", i, err)
		}
		conns = append(conns, c)
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		if err := exchange(c, bufio.NewReader(c), request); err != nil {
			return fmt.Errorf("connection %d: %w", i, err)
		}
	}
	ready()
	<-ctx.Done()
	return nil
}
