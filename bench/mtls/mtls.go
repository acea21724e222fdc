// Package mtls is the TLS of the measured programs that are written for the bench: 1.3 only, with a certificate on both sides.
package mtls

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
)

// Config is for both sides: certificate is a file with certificate and key, ca one with the CA's certificate. A client says by name what
// the server's certificate has to say; a server leaves it empty.
func Config(certificate, ca, name string) (*tls.Config, error) {
	pair, err := tls.LoadX509KeyPair(certificate, certificate)
	if err != nil {
		return nil, err
	}
	pem, err := os.ReadFile(ca)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("no certificate in %s", ca)
	}
	return &tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: roots, ClientCAs: roots, ClientAuth: tls.RequireAndVerifyClientCert,
		ServerName: name, MinVersion: tls.VersionTLS13}, nil
}
