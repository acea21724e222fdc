package node

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"fairlead.io/fairlead/internal/l7"
	"fairlead.io/fairlead/internal/l7/balance"
	"fairlead.io/fairlead/internal/l7/routing"
	"fairlead.io/fairlead/internal/mesh"
	"fairlead.io/fairlead/internal/node/debug"
)

// serveExplain tells what would become of a connection of a local pod: ?pod=UID&dst=address:port of one that it makes,
// ?pod=UID&src=address&port=number of one that comes to it. With &method=, &path= and &header=name:value it tells of a request, too. The answers are those of the brain's own functions.
func (n *node) serveExplain(w http.ResponseWriter, r *http.Request) {
	uid := r.FormValue("pod")
	p := n.pods.pod(uid)
	e := &explainer{n: n, b: n.brain.Load(), pod: p, out: debug.Explanation{Node: n.cfg.Node}}
	var err error
	if e.request, err = requestOf(r); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	switch {
	case uid == "" || (r.FormValue("dst") == "") == (r.FormValue("src") == ""):
		err = errors.New("want ?pod=UID&dst=address:port or ?pod=UID&src=address&port=number")
	case r.FormValue("dst") != "":
		var dst netip.AddrPort
		if dst, err = netip.ParseAddrPort(r.FormValue("dst")); err == nil {
			e.outbound(netip.AddrPortFrom(dst.Addr().Unmap(), dst.Port()))
		}
	default:
		var src netip.Addr
		var port uint64
		if src, err = netip.ParseAddr(r.FormValue("src")); err == nil {
			if port, err = strconv.ParseUint(r.FormValue("port"), 10, 16); err == nil {
				e.inbound(src.Unmap(), uint16(port))
			}
		}
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	writeJSON(w, e.out)
}

// explainer collects the steps. A step that is not OK may be followed by others: they tell what would come then.
type explainer struct {
	n   *node
	b   *brain // nil before the proxy has its certificate
	pod *l7.Pod
	out debug.Explanation

	request *routing.Request // that is asked about; nil if none is
}

func (e *explainer) step(ok bool, name, format string, args ...any) {
	e.out.Steps = append(e.out.Steps, debug.Step{Name: name, OK: ok, Text: fmt.Sprintf(format, args...)})
}

// local tells of the pod itself, and whether there is something to go on with.
func (e *explainer) local(d l7.Direction) bool {
	if e.pod == nil {
		e.step(false, "redirect", "this node's proxy has no such pod: its connections go round the mesh")
		return false
	}
	listeners := e.pod.Out
	if d == l7.Inbound {
		listeners = e.pod.In
	}
	before := ""
	if c := e.n.pods.earlierOf(e.pod.UID); c.Connections > 0 {
		before = fmt.Sprintf("; connections from before its capture, which are not until they end: %d", c.Connections)
	}
	e.step(len(listeners) > 0, "redirect", "%s connections of %s are given to the proxy (listeners in the pod: %d)%s", d, e.pod.Name, len(listeners), before)
	if e.b == nil || !e.b.world.Synced() {
		e.step(false, "table", "%v: connections wait for it", ErrNoTable)
		return false
	}
	s := e.b.world.Snapshot()
	row := s.Pod(e.pod.UID)
	switch {
	case row == nil:
		e.step(false, "table", "version %d does not have the pod yet", s.Version())
	case !row.InMesh:
		e.step(false, "table", "the pod is not announced yet (version %d): others speak plaintext to it", s.Version())
	default:
		e.step(true, "table", "the pod is announced as in the mesh (version %d)", s.Version())
	}
	e.identity()
	return true
}

func (e *explainer) identity() {
	cert := e.b.creds.certificates()[e.pod.Account]
	id := e.b.creds.id(e.pod.Account)
	switch now := time.Now(); {
	case cert == nil:
		e.step(false, "identity", "there is no certificate of account %s yet: TLS handshakes wait for it", e.pod.Account)
	case now.After(cert.Leaf.NotAfter):
		e.step(false, "identity", "the certificate of %s has expired at %s", id, cert.Leaf.NotAfter.UTC().Format(time.RFC3339))
	case now.Before(cert.Leaf.NotBefore):
		e.step(false, "identity", "the certificate of %s begins at %s: is the clock right?", id, cert.Leaf.NotBefore.UTC().Format(time.RFC3339))
	default:
		e.step(true, "identity", "it is %s until %s", id, cert.Leaf.NotAfter.UTC().Format(time.RFC3339))
	}
}

func (e *explainer) outbound(dst netip.AddrPort) {
	if !e.local(l7.Outbound) {
		return
	}
	s := e.b.world.Snapshot()
	svc, port, mapped, err := e.b.service(s, dst)
	if mapped && svc != nil {
		e.step(true, "destination", "another program rewrites service addresses here: a backend's address stands for its service")
	}
	switch {
	case err != nil:
		e.step(false, "destination", "%v: the connection is reset", err)
	case svc == nil:
		e.direct(endpointAt(s, dst))
	default:
		e.service(s, svc, port, dst)
	}
}

// direct is an address that is no service's.
func (e *explainer) direct(to *balance.Endpoint) {
	if to.Pod == nil {
		e.step(true, "destination", "%s is neither a service nor a pod of the table: it is dialled as it is", to.Addr)
	} else {
		e.step(true, "destination", "%s is pod %s, dialled as it is: nothing is balanced", to.Addr, to.Pod.Name)
	}
	d := e.b.endpoint(to)
	e.out.Endpoint = &d
	e.hop(to)
}

func (e *explainer) service(s *mesh.Snapshot, svc *mesh.Service, port mesh.Port, dst netip.AddrPort) {
	row := rowOf(s.Routes(svc.Name), port.Number, e.pod.Name.Namespace)
	port.Protocol = declared(port, row)
	spoken := "is found out from its first bytes"
	if port.Protocol != mesh.Unknown {
		spoken = "is declared as " + port.Protocol.String()
	}
	e.step(true, "destination", "%s is service %s, port %d; its protocol %s", dst, svc.Name, port.Number, spoken)
	e.rules(s, svc, port, dst.Addr())
	for _, d := range e.b.describe(svc, port) {
		if !d.Used || (d.Family == "IPv4") == dst.Addr().Is4() {
			e.out.Service = &d
		}
	}
	if s.Endpoints(svc.Name) == nil {
		e.step(true, "endpoints", "no pod of this node has used the service: its endpoints are asked for at the first connection")
		return
	}
	cluster := e.b.clusters.peek(s, svc, port, dst.Addr())
	to, err := cluster.Pick(balance.Choice{Peek: true})
	if err != nil {
		e.step(false, "endpoints", "known: %d, but %v: requests are answered with 503, other connections reset", len(cluster.Endpoints()), err)
		return
	}
	how := "each HTTP request is balanced by itself"
	if port.Protocol == mesh.TCP {
		how = "each connection is balanced"
	}
	e.step(true, "endpoints", "known: %d; %s; now it would be %s", len(cluster.Endpoints()), how, to.Addr)
	e.hop(to)
}

// hop tells how an endpoint would be spoken to.
func (e *explainer) hop(to *balance.Endpoint) {
	switch {
	case e.pod.Has(to.Addr.Addr()):
		e.step(true, "tls", "none: the pod speaks to itself, and no byte leaves it")
	case to.Mesh:
		e.step(true, "tls", "mutual TLS; the server must be %s, with a certificate of node %s", e.b.creds.id(to.Account), to.Node)
	case to.Pod != nil:
		e.step(true, "tls", "plaintext: pod %s is not in the mesh", to.Pod.Name)
	default:
		e.step(true, "tls", "plaintext: the address is outside the mesh")
	}
}

func (e *explainer) inbound(src netip.Addr, port uint16) {
	if !e.local(l7.Inbound) {
		return
	}
	peer := netip.AddrPortFrom(src, 0)
	origin := e.b.Origin(e.pod, peer)
	switch {
	case e.pod.Has(src):
		e.step(true, "client", "%s is the pod itself: it comes straight to the app", src)
		return
	case origin.Pod == nil:
		e.step(true, "client", "%s is in no table: its first bytes are waited for, in case it speaks mutual TLS; whoever it proves to be is believed until the table knows", src)
	case origin.Mesh:
		e.step(true, "client", "%s is pod %s on node %s, in the mesh: it must prove to be %s", src, origin.Pod.Name, origin.Node, e.b.creds.id(origin.Pod.Account))
	default:
		e.step(true, "client", "%s is pod %s on node %s, outside the mesh", src, origin.Pod.Name, origin.Node)
	}
	plain, mutual := e.b.explain(e.pod, src, port)
	e.step(!strings.Contains(plain, "refused") || origin.Mesh && !strings.Contains(mutual, "refused"), "policy", "plaintext %s, and mutual TLS %s", plain, mutual)
	e.arrival(src, port)
}
