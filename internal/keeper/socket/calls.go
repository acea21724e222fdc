package socket

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"fairlead.io/fairlead/internal/mesh"
)

// callTimeout bounds every call, whatever the caller's context allows.
const callTimeout = 10 * time.Second

// Sockets returns n (1 to MaxBatch) TCP sockets of family 4 or 6 in the pod's network namespace: non-blocking, tagged
// as the proxy's, ready to connect. The caller owns them.
func (c *Client) Sockets(ctx context.Context, uid string, family, n int) ([]int, error) {
	r, err := c.call(ctx, request{kind: kindSockets, uid: uid, family: family, n: n})
	if err != nil {
		return nil, fmt.Errorf("get sockets: %w", err)
	}
	if len(r.fds) == 0 || len(r.fds) > n || len(r.body) != 0 {
		closeAll(r.fds)
		return nil, fmt.Errorf("get sockets: reply with %d descriptors and %d bytes", len(r.fds), len(r.body))
	}
	return r.fds, nil
}

// Hop returns a socket in the pod's network namespace that is bound to the client's address, to connect to the local app.
func (c *Client) Hop(ctx context.Context, uid string, client netip.Addr) (int, error) {
	r, err := c.call(ctx, request{kind: kindHop, uid: uid, client: client})
	if err != nil {
		return -1, fmt.Errorf("get hop socket: %w", err)
	}
	return r.one("get hop socket")
}

// Sign has the keeper sign content, the whole structure of RFC 8446, 4.4.3, with the key of the account's certificate
// whose leaf has that SHA-256. The zero account is the proxy itself.
func (c *Client) Sign(ctx context.Context, account mesh.Account, leafSHA256 [32]byte, content []byte) ([]byte, error) {
	r, err := c.call(ctx, request{kind: kindSign, account: account, leaf: leafSHA256, content: content})
	if err != nil {
		return nil, fmt.Errorf("sign for %s: %w", account, err)
	}
	closeAll(r.fds)
	body := &reader{b: r.body}
	signature := bytes.Clone(body.bytes(maxSignature))
	if err := body.done(); err != nil {
		return nil, fmt.Errorf("sign for %s: %w", account, err)
	}
	return signature, nil
}

// Verdicts returns the counters of the kernel's programs and of the keeper.
func (c *Client) Verdicts(ctx context.Context) (map[string]uint64, error) {
	r, err := c.call(ctx, request{kind: kindVerdicts})
	if err != nil {
		return nil, fmt.Errorf("get verdicts: %w", err)
	}
	closeAll(r.fds)
	verdicts, err := parseVerdicts(r.body)
	if err != nil {
		return nil, fmt.Errorf("get verdicts: %w", err)
	}
	return verdicts, nil
}

// SaveState has the keeper keep what memfd holds, once it has verified the controller's signature. Memfd makes one.
// The caller keeps memfd.
func (c *Client) SaveState(ctx context.Context, memfd int) error {
	r, err := c.call(ctx, request{kind: kindSaveState}, memfd)
	if err != nil {
		return fmt.Errorf("save state: %w", err)
	}
	closeAll(r.fds)
	return nil
}

// LoadState returns the state that was saved last, to read from. The caller owns it; ReadState reads it.
// Returns ErrNoState if there is none.
func (c *Client) LoadState(ctx context.Context) (int, error) {
	r, err := c.call(ctx, request{kind: kindLoadState})
	if err != nil {
		return -1, fmt.Errorf("load state: %w", err)
	}
	return r.one("load state")
}

// Serving tells the keeper that this proxy has everything that it needs to serve pods.
func (c *Client) Serving(ctx context.Context) error {
	r, err := c.call(ctx, request{kind: kindServing})
	if err != nil {
		return fmt.Errorf("tell the keeper of service: %w", err)
	}
	closeAll(r.fds)
	return nil
}

// one returns the only descriptor of a reply that has nothing else.
func (r reply) one(step string) (int, error) {
	if len(r.fds) != 1 || len(r.body) != 0 {
		closeAll(r.fds)
		return -1, fmt.Errorf("%s: reply with %d descriptors and %d bytes", step, len(r.fds), len(r.body))
	}
	return r.fds[0], nil
}

func duplicate(fd int) (int, error) {
	d, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("duplicate descriptor: %w", err)
	}
	return d, nil
}
