package node

import (
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"fairlead.io/fairlead/internal/l7"
	"fairlead.io/fairlead/internal/l7/balance"
	"fairlead.io/fairlead/internal/mesh"
)

// tap keeps what is written to a connection.
type tap struct {
	net.Conn
	sent []byte
}

func (c *tap) Write(b []byte) (int, error) {
	c.sent = append(c.sent, b...)
	return c.Conn.Write(b)
}

// records are the lengths of the TLS records of application data.
func records(t *testing.T, b []byte) (sizes []int) {
	t.Helper()
	for len(b) > 0 {
		if len(b) < 5 {
			t.Fatalf("%d bytes behind the last record", len(b))
		}
		n := int(binary.BigEndian.Uint16(b[3:]))
		if b[0] == 23 {
			sizes = append(sizes, n)
		}
		b = b[5+n:]
	}
	return sizes
}

// Whoever waits for the first bytes of an answer gets them with the first packet, and bulk goes in whole records.
func TestRecordsStartSmallAndGrow(t *testing.T) {
	a := newAuthority(t)
	web := mesh.Account{Namespace: "shop", Name: "web"}
	a.push(web, a.issue(web, "n1", time.Hour))
	a.push(db.Account, a.issue(db.Account, "n2", time.Hour))
	w := newWorld()
	w.apply(dbService())
	b := &brain{world: w, creds: a.creds}
	clientCfg, err := b.ClientTLS(&l7.Pod{Account: web}, &balance.Endpoint{Addr: netip.AddrPortFrom(dbIP, 3306), Account: db.Account, Node: "n2"}, l7.ALPNTCP)
	if err != nil {
		t.Fatal(err)
	}
	serverCfg, err := b.ServerTLS(&l7.Pod{Account: db.Account}, netip.AddrPortFrom(webIP, 40000))
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	const size = 512 << 10
	read := make(chan error, 1)
	go func() {
		c, err := l.Accept()
		if err == nil {
			defer c.Close()
			_, err = io.ReadFull(tls.Server(c, serverCfg), make([]byte, size))
		}
		read <- err
	}()
	raw, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	raw.SetDeadline(time.Now().Add(10 * time.Second))
	wire := &tap{Conn: raw}
	c := tls.Client(wire, clientCfg)
	if err := c.Handshake(); err != nil {
		t.Fatal(err)
	}
	wire.sent = nil
	if _, err := c.Write(make([]byte, size)); err != nil {
		t.Fatal(err)
	}
	if err := <-read; err != nil {
		t.Fatal(err)
	}
	sizes := records(t, wire.sent)
	whole := 16<<10 + 17 // with the type of its content, and the tag
	if sizes[0] > 1208 || sizes[0] < 1000 || sizes[1] <= sizes[0] || sizes[2] <= sizes[1] {
		t.Errorf("the first records: %d", sizes[:3])
	}
	if first := slices.Index(sizes, whole); first < 5 || first > 20 || slices.Max(sizes) != whole {
		t.Errorf("whole records from number %d on: %d", first, sizes)
	}
}

func TestHandshakesAreCounted(t *testing.T) {
	m, reg := testMetrics(t)
	m.Handshake(&l7.HandshakeRecord{Direction: l7.Inbound, Pod: webPod})
	for range 2 {
		m.Handshake(&l7.HandshakeRecord{Direction: l7.Inbound, Pod: webPod, Resumed: true})
	}
	m.Handshake(&l7.HandshakeRecord{Direction: l7.Outbound, Pod: webPod, Err: io.ErrUnexpectedEOF})
	want := map[[3]string]float64{{"inbound", "ok", "false"}: 1, {"inbound", "ok", "true"}: 2, {"outbound", "broken", "false"}: 1,
		{"outbound", "ok", "true"}: 0, {"outbound", "ok", "false"}: 0}
	for labels, n := range want {
		if got := testutil.ToFloat64(m.handshakes.WithLabelValues(labels[:]...)); got != n {
			t.Errorf("%s: %v, want %v", strings.Join(labels[:], " "), got, n)
		}
	}
	// All are there from the start, so that a rate has a beginning.
	if n, err := testutil.GatherAndCount(reg, "fairlead_handshakes_total"); err != nil || n != 2*(3+8) {
		t.Errorf("%d series, %v", n, err)
	}
}
