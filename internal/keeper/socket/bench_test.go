package socket

import (
	"syscall"
	"testing"
)

// BenchmarkSign is the way to a keeper and back that each end of a full handshake goes: a call on the socket and its answer, without
// the signature. Both ends are in this process; a keeper is another one, which the machine has to wake.
//
//	go test ./internal/keeper/socket -run '^$' -bench Sign -benchmem -count 6
func BenchmarkSign(b *testing.B) {
	_, path := serve(b, &fakeKeeper{})
	c := connect(b, path, newRecorder(b))
	content := make([]byte, 130) // as long as a CertificateVerify's
	b.ReportAllocs()
	var before, after syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &before); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := c.Sign(b.Context(), testAccount, [32]byte{}, content); err != nil {
			b.Fatal(err)
		}
	}
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &after); err != nil {
		b.Fatal(err)
	}
	used := after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano()
	b.ReportMetric(float64(used)/1e3/float64(b.N), "cpu-µs/op")
}
