package control

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"strings"
)

// Tokens are the bootstrap tokens of nodes.
type Tokens struct{ entries []token }

type token struct {
	node string
	hash [32]byte
}

// ParseTokens reads lines "node token"; empty ones and those that begin with # are passed over.
func ParseTokens(text []byte) (*Tokens, error) {
	t := &Tokens{}
	lines := bufio.NewScanner(bytes.NewReader(text))
	for n := 1; lines.Scan(); n++ {
		f := strings.Fields(lines.Text())
		if len(f) == 0 || strings.HasPrefix(f[0], "#") {
			continue
		}
		if len(f) != 2 {
			return nil, fmt.Errorf("parse tokens: line %d: want \"node token\"", n)
		}
		e := token{node: f[0], hash: sha256.Sum256([]byte(f[1]))}
		for _, other := range t.entries {
			if other.hash == e.hash {
				return nil, fmt.Errorf("parse tokens: line %d: the same token as of node %q", n, other.node)
			}
		}
		t.entries = append(t.entries, e)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("parse tokens: %w", err)
	}
	return t, nil
}

// ErrUnknownToken is returned by Tokens.Node for a token that is no node's.
var ErrUnknownToken = errors.New("unknown token")

// Node is the node of a token, or ErrUnknownToken. It takes the same time for every token.
func (t *Tokens) Node(_ context.Context, tok string) (string, error) {
	hash := sha256.Sum256([]byte(tok))
	node, found := "", false
	for _, e := range t.entries {
		if subtle.ConstantTimeCompare(hash[:], e.hash[:]) == 1 {
			node, found = e.node, true
		}
	}
	if !found {
		return "", ErrUnknownToken
	}
	return node, nil
}
