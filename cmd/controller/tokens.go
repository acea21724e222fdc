package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"

	"fairlead.io/fairlead/internal/control"
)

// tokens are the bootstrap tokens of a file, for nodes without a Kubernetes that knows them.
type tokens struct {
	file    string
	digest  [32]byte
	current atomic.Pointer[control.Tokens]
}

func openTokens(file string) (*tokens, error) {
	t := &tokens{file: file}
	t.current.Store(&control.Tokens{})
	return t, t.reload(slog.New(slog.DiscardHandler))
}

// reload reads the file again. On an error the tokens of before stay good.
func (t *tokens) reload(log *slog.Logger) error {
	if t.file == "" {
		return nil
	}
	text, err := os.ReadFile(t.file)
	if err != nil {
		return fmt.Errorf("read tokens: %w", err)
	}
	digest := sha256.Sum256(text)
	if digest == t.digest {
		return nil
	}
	now, err := control.ParseTokens(text)
	if err != nil {
		return err
	}
	t.digest = digest
	t.current.Store(now)
	log.Info("tokens replaced")
	return nil
}

// Node is the node of a token.
func (t *tokens) Node(ctx context.Context, token string) (string, error) {
	return t.current.Load().Node(ctx, token)
}
