package lab

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"fairlead.io/fairlead/test/cluster/config"
	"fairlead.io/fairlead/test/cluster/pki"
)

// Names of certificates in the cluster's pki directory.
const (
	authority      = "ca"
	frontAuthority = "front-proxy-ca"
	admin          = "admin"
)

// users are the clients of the API server that have a kubeconfig on the first node.
var users = map[string]string{
	"controller-manager": "system:kube-controller-manager",
	"scheduler":          "system:kube-scheduler",
}

// writeFiles makes certificates, and of them and the configuration what each node gets to see.
func (l *Lab) writeFiles() error {
	if err := l.issue(); err != nil {
		return err
	}
	for _, n := range l.Cluster.All() {
		if err := l.writeNode(n); err != nil {
			return fmt.Errorf("node %s: %w", n.Name, err)
		}
	}
	b, err := l.pki().Kubeconfig(authority, admin, fmt.Sprintf("https://127.0.0.1:%d", l.Cluster.Port))
	if err != nil {
		return err
	}
	return l.write("kubeconfig", b, 0o600)
}

// issue makes the certificates that are missing.
func (l *Lab) issue() error {
	ca, err := l.pki().Authority(authority)
	if err != nil {
		return err
	}
	front, err := l.pki().Authority(frontAuthority)
	if err != nil {
		return err
	}
	first := l.Cluster.Node(1)
	errs := []error{
		l.pki().SigningKey("tokens"),
		front.Issue("front-proxy", pki.Subject{CommonName: "front-proxy"}),
		ca.Issue("apiserver", pki.Subject{CommonName: "kube-apiserver", Names: []string{
			"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local", "localhost",
			"127.0.0.1", l.Cluster.APIService().String(), first.Name, first.Addresses[0].Addr().String()}}),
		ca.Issue("apiserver-kubelet", pki.Subject{CommonName: "kube-apiserver", Groups: []string{"system:masters"}}),
		ca.Issue(admin, pki.Subject{CommonName: "admin", Groups: []string{"system:masters"}}),
		ca.Issue("kube-proxy", pki.Subject{CommonName: "system:kube-proxy"}),
	}
	for name, user := range users {
		errs = append(errs, ca.Issue(name, pki.Subject{CommonName: user}))
	}
	for _, n := range l.Cluster.All() {
		subject := pki.Subject{CommonName: "system:node:" + n.Name, Groups: []string{"system:nodes"}, Names: []string{n.Name, "localhost", "127.0.0.1"}}
		for _, a := range n.Addresses {
			subject.Names = append(subject.Names, a.Addr().String())
		}
		errs = append(errs, ca.Issue("kubelet-"+n.Name, subject))
	}
	return errors.Join(errs...)
}

// writeNode writes a node's /etc/kubernetes.
func (l *Lab) writeNode(n config.Node) error {
	files, err := l.Cluster.Files(n)
	if err != nil {
		return err
	}
	server := "https://" + net.JoinHostPort(l.Cluster.API().Addr().String(), fmt.Sprint(config.APIPort))
	clients := map[string]string{"kubelet": "kubelet-" + n.Name, "kube-proxy": "kube-proxy"}
	secrets := []string{authority + ".crt", "kubelet-" + n.Name + ".crt", "kubelet-" + n.Name + ".key"}
	if l.Cluster.IsControlPlane(n) {
		for name := range users {
			clients[name] = name
		}
		clients[admin] = admin
		secrets = append(secrets, authority+".key", "apiserver.crt", "apiserver.key", "apiserver-kubelet.crt", "apiserver-kubelet.key",
			"tokens.pub", "tokens.key", frontAuthority+".crt", "front-proxy.crt", "front-proxy.key")
	}
	for file, name := range clients {
		if files[file+".kubeconfig"], err = l.pki().Kubeconfig(authority, name, server); err != nil {
			return err
		}
	}
	for _, name := range secrets {
		if files["pki/"+name], err = os.ReadFile(l.path("pki", name)); err != nil {
			return err
		}
	}
	for name, content := range files {
		if err := l.write(filepath.Join("nodes", n.Name, "config", name), content, 0o600); err != nil {
			return err
		}
	}
	return nil
}
