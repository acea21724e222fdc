package testnet

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
)

// masqueradeMark is on packets whose answers must come back through this node.
const masqueradeMark = 0x4000

// setNFT replaces the tables of services in the namespace in one transaction.
func setNFT(netns int, list []rule) error {
	conn, err := nftables.New(nftables.WithNetNSFd(netns), nftables.WithSockOptions(roomForAnswers))
	if err != nil {
		return unavailable(err)
	}
	for _, family := range []nftables.TableFamily{nftables.TableFamilyIPv4, nftables.TableFamilyIPv6} {
		table := &nftables.Table{Name: "services", Family: family}
		// Added so that deleting it works the first time too.
		conn.AddTable(table)
		conn.DelTable(table)
		t := newTable(conn, conn.AddTable(table))
		for _, r := range list {
			if r.addr.Addr().Is4() == t.v4() {
				t.add(r)
			}
		}
	}
	if err := conn.Flush(); err != nil {
		return unavailable(err)
	}
	return nil
}

// roomForAnswers makes room for the kernel's answer to every rule of a transaction: they are read only at its end.
func roomForAnswers(conn *netlink.Conn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var setErr error
	err = raw.Control(func(fd uintptr) {
		setErr = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<20)
	})
	return errors.Join(err, setErr)
}

func unavailable(err error) error {
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EPROTONOSUPPORT) || errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("this kernel lacks nftables with NAT (CONFIG_NF_TABLES, CONFIG_NFT_NAT, CONFIG_NFT_NUMGEN): %w", err)
	}
	return fmt.Errorf("nftables: %w", err)
}

// table is one family's rules.
type table struct {
	conn                         *nftables.Conn
	table                        *nftables.Table
	prerouting, output, outgoing *nftables.Chain
}

func newTable(conn *nftables.Conn, t *nftables.Table) *table {
	chain := func(name string, hook *nftables.ChainHook, priority *nftables.ChainPriority) *nftables.Chain {
		return conn.AddChain(&nftables.Chain{Name: name, Table: t, Type: nftables.ChainTypeNAT, Hooknum: hook, Priority: priority})
	}
	n := &table{conn: conn, table: t,
		prerouting: chain("prerouting", nftables.ChainHookPrerouting, nftables.ChainPriorityNATDest),
		output:     chain("output", nftables.ChainHookOutput, nftables.ChainPriorityNATDest),
		outgoing:   chain("postrouting", nftables.ChainHookPostrouting, nftables.ChainPriorityNATSource)}
	n.rule(n.outgoing, []expr.Any{&expr.Meta{Key: expr.MetaKeyMARK, Register: 1}, equal(1, binaryutil.NativeEndian.PutUint32(masqueradeMark)), &expr.Masq{}})
	return n
}

func (t *table) v4() bool { return t.table.Family == nftables.TableFamilyIPv4 }

func (t *table) rule(chain *nftables.Chain, parts ...[]expr.Any) {
	var exprs []expr.Any
	for _, part := range parts {
		exprs = append(exprs, part...)
	}
	t.conn.AddRule(&nftables.Rule{Table: t.table, Chain: chain, Exprs: exprs})
}

// add leads connections that match r to one endpoint each.
func (t *table) add(r rule) {
	match := t.match(r)
	for _, chain := range []*nftables.Chain{t.prerouting, t.output} {
		if r.masquerade {
			t.rule(chain, match, []expr.Any{&expr.Immediate{Register: 1, Data: binaryutil.NativeEndian.PutUint32(masqueradeMark)},
				&expr.Meta{Key: expr.MetaKeyMARK, SourceRegister: true, Register: 1}})
		}
		for i, endpoint := range r.endpoints {
			t.rule(chain, match, t.choose(r, i), t.translate(endpoint))
		}
	}
	for _, endpoint := range r.endpoints {
		// A pod that reaches itself through its service would answer itself past the translation.
		addr := endpoint.Addr().AsSlice()
		t.rule(t.outgoing, t.address(1, false), []expr.Any{equal(1, addr)}, t.address(1, true), []expr.Any{equal(1, addr), &expr.Masq{}})
	}
}

func (t *table) match(r rule) []expr.Any {
	protocol := byte(unix.IPPROTO_TCP)
	if r.protocol == corev1.ProtocolUDP {
		protocol = unix.IPPROTO_UDP
	}
	exprs := append(t.address(1, true), equal(1, r.addr.Addr().AsSlice()))
	return append(exprs,
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}, equal(1, []byte{protocol}),
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2}, equal(1, port(r.addr)))
}

// choose matches a connection if it is the i-th endpoint's turn, given that the rules before did not match.
func (t *table) choose(r rule, i int) []expr.Any {
	n := uint32(len(r.endpoints))
	if r.affinity {
		length := uint32(16)
		if t.v4() {
			length = 4
		}
		return append(t.address(2, false), &expr.Hash{SourceRegister: 2, DestRegister: 1, Length: length, Modulus: n, Seed: 1, Type: expr.HashTypeJenkins},
			equal(1, binaryutil.NativeEndian.PutUint32(uint32(i))))
	}
	left := n - uint32(i)
	if left == 1 {
		return nil
	}
	return []expr.Any{&expr.Numgen{Register: 1, Modulus: left, Type: unix.NFT_NG_RANDOM}, equal(1, binaryutil.NativeEndian.PutUint32(0))}
}

func (t *table) translate(to netip.AddrPort) []expr.Any {
	return []expr.Any{&expr.Immediate{Register: 1, Data: to.Addr().AsSlice()}, &expr.Immediate{Register: 2, Data: port(to)},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: uint32(t.table.Family), RegAddrMin: 1, RegProtoMin: 2}}
}

// address loads the packet's source or destination address.
func (t *table) address(register uint32, destination bool) []expr.Any {
	offset, length := uint32(8), uint32(16)
	if t.v4() {
		offset, length = 12, 4
	}
	if destination {
		offset += length
	}
	return []expr.Any{&expr.Payload{DestRegister: register, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: length}}
}

func equal(register uint32, data []byte) expr.Any {
	return &expr.Cmp{Op: expr.CmpOpEq, Register: register, Data: data}
}

func port(a netip.AddrPort) []byte { return binary.BigEndian.AppendUint16(nil, a.Port()) }
