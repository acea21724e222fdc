package main

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
)

// trustDomainOf is the first part of a SPIFFE ID.
func trustDomainOf(id string) (string, bool) {
	rest, ok := strings.CutPrefix(id, "spiffe://")
	td, _, _ := strings.Cut(rest, "/")
	return td, ok && td != ""
}

// shortID is what tells an account's ID from others of the mesh: "ns/sa".
func shortID(id string) string {
	td, ok := trustDomainOf(id)
	if !ok {
		return id
	}
	path := strings.TrimPrefix(id, "spiffe://"+td+"/")
	part := strings.Split(path, "/")
	if len(part) == 4 && part[0] == "ns" && part[2] == "sa" {
		return part[1] + "/" + part[3]
	}
	return path
}

// certificatesOf reads PEM.
func certificatesOf(text string) ([]*x509.Certificate, error) {
	var all []*x509.Certificate
	for rest := []byte(text); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("read certificate: %w", err)
		}
		all = append(all, c)
	}
	if len(all) == 0 {
		return nil, errors.New("read certificate: there is none")
	}
	return all, nil
}
