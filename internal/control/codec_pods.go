package control

import (
	"fmt"
	"math"
	"net/netip"
	"time"

	"fairlead.io/fairlead/internal/control/controlpb"
	"fairlead.io/fairlead/internal/mesh"
)

func encodeEnrolments(pods []mesh.Enrolment) *controlpb.PodsDown_Pods {
	out := &controlpb.PodsDown_Pods{}
	for _, p := range pods {
		e := &controlpb.Enrolment{
			Uid: p.UID, Name: encodeName(p.Name), Account: encodeAccount(p.Account), Workload: p.Workload,
			Enrolled: p.Enrolled, DrainMs: p.Drain.Milliseconds(),
		}
		for _, port := range p.ProbePorts {
			e.ProbePorts = append(e.ProbePorts, uint32(port))
		}
		out.Pods = append(out.Pods, e)
	}
	return out
}

func decodeEnrolments(in *controlpb.PodsDown_Pods) ([]mesh.Enrolment, error) {
	out := []mesh.Enrolment{}
	for _, e := range in.GetPods() {
		if e.GetDrainMs() < 0 || e.GetDrainMs() > math.MaxInt64/int64(time.Millisecond) {
			return nil, fmt.Errorf("pod %s: drain of %d ms", e.GetUid(), e.GetDrainMs())
		}
		p := mesh.Enrolment{
			UID: e.GetUid(), Name: decodeName(e.GetName()), Account: decodeAccount(e.GetAccount()), Workload: e.GetWorkload(),
			Enrolled: e.GetEnrolled(), Drain: time.Duration(e.GetDrainMs()) * time.Millisecond,
		}
		for _, port := range e.GetProbePorts() {
			if port == 0 || port > math.MaxUint16 {
				return nil, fmt.Errorf("pod %s: probe port %d", e.GetUid(), port)
			}
			p.ProbePorts = append(p.ProbePorts, uint16(port))
		}
		out = append(out, p)
	}
	return out, nil
}

func encodeNamespaces(in map[string]bool) *controlpb.PodsDown_Namespaces {
	out := &controlpb.PodsDown_Namespaces{}
	for name, enrolled := range in {
		out.Namespaces = append(out.Namespaces, &controlpb.Namespace{Name: name, Enrolled: enrolled})
	}
	return out
}

func decodeNamespaces(in *controlpb.PodsDown_Namespaces) map[string]bool {
	out := make(map[string]bool, len(in.GetNamespaces()))
	for _, n := range in.GetNamespaces() {
		out[n.GetName()] = n.GetEnrolled()
	}
	return out
}

func encodeCaptured(in map[string][]netip.Addr) []*controlpb.Captured {
	var out []*controlpb.Captured
	for uid, addrs := range in {
		out = append(out, &controlpb.Captured{Uid: uid, Addresses: encodeAddrs(addrs)})
	}
	return out
}

func decodeCaptured(in []*controlpb.Captured) (map[string][]netip.Addr, error) {
	if len(in) > maxCaptured {
		return nil, fmt.Errorf("%d captured pods, at most %d are believed", len(in), maxCaptured)
	}
	out := make(map[string][]netip.Addr, len(in))
	for _, c := range in {
		if c.GetUid() == "" || len(c.GetUid()) > maxName || len(c.GetAddresses()) > maxAddrs {
			return nil, fmt.Errorf("captured pod with a uid of %d bytes and %d addresses", len(c.GetUid()), len(c.GetAddresses()))
		}
		addrs, err := decodeAddrs(c.GetAddresses())
		if err != nil {
			return nil, fmt.Errorf("captured pod %s: %w", c.GetUid(), err)
		}
		out[c.GetUid()] = addrs
	}
	return out, nil
}
