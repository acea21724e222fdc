package control

import (
	"math"

	"fairlead.io/fairlead/internal/control/controlpb"
	"fairlead.io/fairlead/internal/mesh"
)

func encodeTraffic(t *mesh.Traffic) *controlpb.Traffic {
	if t == nil {
		return nil
	}
	out := &controlpb.Traffic{From: each(t.From, encodeName), Protocol: controlpb.Protocol(t.Protocol), Faults: each(t.Faults, encodeFault)}
	if r := t.Retry; r != nil {
		out.Retry = &controlpb.Retry{Grpc: r.GRPC, Connect: r.Connect, Limit: uint32(r.Limit), AttemptNs: int64(r.Attempt), BackoffNs: int64(r.Backoff),
			Ratio: r.Ratio, Floor: r.Floor}
		for _, s := range r.Statuses {
			out.Retry.Statuses = append(out.Retry.Statuses, &controlpb.StatusRange{First: uint32(s.First), Last: uint32(s.Last)})
		}
	}
	if x := t.Timeouts; x != nil {
		out.Timeouts = &controlpb.Timeouts{RequestNs: int64(x.Request), AttemptNs: int64(x.Attempt), IdleNs: int64(x.Idle)}
	}
	if b := t.Breaker; b != nil {
		out.Breaker = &controlpb.Breaker{Consecutive: uint32(b.Consecutive), SuccessRate: b.SuccessRate, Requests: uint32(b.Requests), WindowNs: int64(b.Window),
			MinNs: int64(b.Min), MaxNs: int64(b.Max), Jitter: b.Jitter, Connections: uint32(b.Connections), Pending: uint32(b.Pending)}
	}
	if b := t.Balance; b != nil {
		out.Balance = &controlpb.Balance{Algorithm: controlpb.Algorithm(b.Algorithm), HashOn: controlpb.HashSource(b.HashOn), HashName: b.HashName,
			SlowStartNs: int64(b.SlowStart), Zone: b.Zone}
	}
	if l := t.Limit; l != nil {
		out.Limit = &controlpb.Limit{Total: encodeRate(l.Total), Each: encodeRate(l.Each)}
		for id, r := range l.Except {
			if out.Limit.Except == nil {
				out.Limit.Except = make(map[string]*controlpb.Rate, len(l.Except))
			}
			out.Limit.Except[id] = encodeRate(r)
		}
	}
	return out
}

func decodeTraffic(t *controlpb.Traffic) *mesh.Traffic {
	if t == nil {
		return nil
	}
	out := &mesh.Traffic{From: each(t.GetFrom(), decodeName), Protocol: decodeProtocol(t.GetProtocol()), Retry: decodeRetry(t.GetRetry()),
		Breaker: decodeBreaker(t.GetBreaker()), Balance: decodeBalance(t.GetBalance()), Limit: decodeLimit(t.GetLimit()), Faults: decodeFaults(t.GetFaults())}
	if x := t.GetTimeouts(); x != nil {
		out.Timeouts = &mesh.Timeouts{Request: decodeTime(x.GetRequestNs()), Attempt: decodeTime(x.GetAttemptNs()), Idle: decodeTime(x.GetIdleNs())}
	}
	return out
}

func decodeRetry(r *controlpb.Retry) *mesh.Retry {
	if r == nil {
		return nil
	}
	out := &mesh.Retry{GRPC: r.GetGrpc(), Connect: r.GetConnect(), Limit: decodeCount(r.GetLimit()), Attempt: decodeTime(r.GetAttemptNs()),
		Backoff: decodeTime(r.GetBackoffNs()), Ratio: decodeNumber(r.GetRatio()), Floor: decodeNumber(r.GetFloor())}
	for _, s := range r.GetStatuses() {
		out.Statuses = append(out.Statuses, mesh.StatusRange{First: uint16(min(s.GetFirst(), math.MaxUint16)), Last: uint16(min(s.GetLast(), math.MaxUint16))})
	}
	return out
}

func decodeBreaker(b *controlpb.Breaker) *mesh.Breaker {
	if b == nil {
		return nil
	}
	return &mesh.Breaker{Consecutive: decodeCount(b.GetConsecutive()), SuccessRate: decodeNumber(b.GetSuccessRate()), Requests: decodeCount(b.GetRequests()),
		Window: decodeTime(b.GetWindowNs()), Min: decodeTime(b.GetMinNs()), Max: decodeTime(b.GetMaxNs()), Jitter: decodeNumber(b.GetJitter()),
		Connections: decodeCount(b.GetConnections()), Pending: decodeCount(b.GetPending())}
}

// decodeBalance: an algorithm of a later version is the usual one.
func decodeBalance(b *controlpb.Balance) *mesh.Balance {
	if b == nil {
		return nil
	}
	out := &mesh.Balance{HashName: b.GetHashName(), SlowStart: decodeTime(b.GetSlowStartNs()), Zone: b.GetZone()}
	if a := b.GetAlgorithm(); a > 0 && a <= controlpb.Algorithm(mesh.ConsistentHash) {
		out.Algorithm = mesh.Algorithm(a)
	}
	switch h := b.GetHashOn(); {
	case h < 0, h > controlpb.HashSource(mesh.HashCookie):
		out.Algorithm = mesh.PeakEWMA
	default:
		out.HashOn = mesh.HashSource(h)
	}
	return out
}

func decodeLimit(l *controlpb.Limit) *mesh.Limit {
	if l == nil {
		return nil
	}
	out := &mesh.Limit{Total: decodeRate(l.GetTotal()), Each: decodeRate(l.GetEach())}
	for id, r := range l.GetExcept() {
		if out.Except == nil {
			out.Except = make(map[string]mesh.Rate, len(l.GetExcept()))
		}
		out.Except[id] = decodeRate(r)
	}
	return out
}

func encodeRate(r mesh.Rate) *controlpb.Rate {
	return &controlpb.Rate{PerSecond: r.PerSecond, Burst: uint32(r.Burst)}
}

func decodeRate(r *controlpb.Rate) mesh.Rate {
	return mesh.Rate{PerSecond: decodeNumber(r.GetPerSecond()), Burst: decodeCount(r.GetBurst())}
}

func encodeFault(f mesh.Fault) *controlpb.Fault {
	return &controlpb.Fault{Match: each(f.Match, encodeMatch), Percent: f.Percent, DelayNs: int64(f.Delay), Status: uint32(f.Status), Grpc: f.GRPC, Abort: f.Abort}
}

// decodeFaults leaves out those that are for requests which cannot be told apart here.
func decodeFaults(in []*controlpb.Fault) (out []mesh.Fault) {
	for _, f := range in {
		x := mesh.Fault{Percent: decodeNumber(f.GetPercent()), Delay: decodeTime(f.GetDelayNs()), Status: decodeCount(f.GetStatus()), GRPC: f.GetGrpc(), Abort: f.GetAbort()}
		for _, m := range f.GetMatch() {
			if match, known := decodeMatch(m); known {
				x.Match = append(x.Match, match)
			}
		}
		if len(x.Match) > 0 || len(f.GetMatch()) == 0 {
			out = append(out, x)
		}
	}
	return out
}

// decodeCount is a number of something.
func decodeCount(n uint32) int { return int(min(n, math.MaxInt32)) }

// decodeNumber: what is no number, or less than nothing, is nothing.
func decodeNumber(x float64) float64 {
	if !(x > 0) || math.IsInf(x, 0) {
		return 0
	}
	return x
}
