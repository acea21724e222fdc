package pki

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

func TestIssuedIsVouchedFor(t *testing.T) {
	d := Dir(filepath.Join(t.TempDir(), "pki"))
	ca, err := d.Authority("ca")
	if err != nil {
		t.Fatal(err)
	}
	subject := Subject{CommonName: "system:node:n1", Groups: []string{"system:nodes"}, Names: []string{"n1", "10.89.0.11", "fd00::1"}}
	if err := ca.Issue("kubelet", subject); err != nil {
		t.Fatal(err)
	}
	pair, err := tls.LoadX509KeyPair(d.path("kubelet.crt"), d.path("kubelet.key"))
	if err != nil {
		t.Fatal(err)
	}
	pem, err := os.ReadFile(d.path("ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	for _, name := range []string{"n1", "10.89.0.11", "fd00::1"} {
		if _, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: name}); err != nil {
			t.Errorf("as a server %s: %v", name, err)
		}
	}
	client := x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	if _, err := pair.Leaf.Verify(client); err != nil {
		t.Errorf("as a client: %v", err)
	}
	if got := pair.Leaf.Subject; got.CommonName != subject.CommonName || got.Organization[0] != subject.Groups[0] {
		t.Errorf("subject %v", got)
	}
	if st, err := os.Stat(d.path("kubelet.key")); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("the key is %v, %v", st.Mode(), err)
	}
}

// TestWhatIsThereStays: a cluster that grows, or is called up again, goes on with the authority it has.
func TestWhatIsThereStays(t *testing.T) {
	d := Dir(t.TempDir())
	var before map[string]string
	for range 2 {
		ca, err := d.Authority("ca")
		if err != nil {
			t.Fatal(err)
		}
		if err := ca.Issue("one", Subject{CommonName: "one"}); err != nil {
			t.Fatal(err)
		}
		if err := d.SigningKey("tokens"); err != nil {
			t.Fatal(err)
		}
		files := make(map[string]string)
		for _, name := range []string{"ca.crt", "ca.key", "one.crt", "one.key", "tokens.key", "tokens.pub"} {
			b, err := os.ReadFile(d.path(name))
			if err != nil {
				t.Fatal(err)
			}
			files[name] = string(b)
			if before != nil && before[name] != files[name] {
				t.Errorf("%s was made anew", name)
			}
		}
		before = files
	}
}

func TestKubeconfig(t *testing.T) {
	d := Dir(t.TempDir())
	ca, err := d.Authority("ca")
	if err != nil {
		t.Fatal(err)
	}
	if err := ca.Issue("admin", Subject{CommonName: "admin"}); err != nil {
		t.Fatal(err)
	}
	b, err := d.Kubeconfig("ca", "admin", "https://127.0.0.1:16443")
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Clusters []struct {
			Cluster struct {
				Server string
				CA     []byte `json:"certificate-authority-data"`
			}
		}
		Users []struct {
			User struct {
				Cert []byte `json:"client-certificate-data"`
				Key  []byte `json:"client-key-data"`
			}
		}
	}
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	if _, err := tls.X509KeyPair(got.Users[0].User.Cert, got.Users[0].User.Key); err != nil {
		t.Error(err)
	}
	if !x509.NewCertPool().AppendCertsFromPEM(got.Clusters[0].Cluster.CA) || got.Clusters[0].Cluster.Server != "https://127.0.0.1:16443" {
		t.Errorf("cluster %+v", got.Clusters)
	}
	if _, err := d.Kubeconfig("ca", "nobody", ""); err == nil {
		t.Error("a kubeconfig without a certificate")
	}
}
