package config

import (
	"fmt"
	"strings"

	"fairlead.io/fairlead/test/cluster/node"
)

const (
	pkiDir  = node.ConfigDir + "/pki/"
	etcdURL = "http://127.0.0.1:2379"
)

// Programs are the names by which the one binary of Kubernetes is called, on a node.
var Programs = []string{"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl"}

// ServicesOf are the services of a node; the first has the control plane too.
func (c Cluster) ServicesOf(n Node) []node.Service {
	list := []node.Service{
		{Name: "containerd", Args: []string{"containerd", "--config", node.ConfigDir + "/containerd.toml"}},
		{Name: "kubelet", Args: c.kubelet(n)},
		{Name: "kube-proxy", Args: []string{"kube-proxy", "--config", node.ConfigDir + "/kube-proxy.yaml", "--v=2"}},
	}
	if !c.IsControlPlane(n) {
		return list
	}
	return append([]node.Service{
		{Name: "etcd", Args: c.etcd()},
		{Name: "kube-apiserver", Args: c.apiserver()},
		{Name: "kube-controller-manager", Args: c.manager()},
		{Name: "kube-scheduler", Args: component("kube-scheduler", "scheduler")},
	}, list...)
}

// IsControlPlane is true of the first node.
func (c Cluster) IsControlPlane(n Node) bool { return n.Name == c.Node(1).Name }

func (c Cluster) kubelet(n Node) []string {
	var addresses []string
	for _, a := range n.Addresses {
		addresses = append(addresses, a.Addr().String())
	}
	return []string{"kubelet", "--config", node.ConfigDir + "/kubelet.yaml", "--kubeconfig=" + node.ConfigDir + "/kubelet.kubeconfig",
		"--hostname-override=" + n.Name, "--node-ip=" + strings.Join(addresses, ","), "--v=2"}
}

// etcd keeps the cluster's state on the node's disk. It does not wait for the disk: a machine that loses power loses the cluster.
func (c Cluster) etcd() []string {
	const peerURL = "http://127.0.0.1:2380"
	return []string{"etcd", "--name=n1", "--data-dir=/var/lib/etcd", "--unsafe-no-fsync", "--log-level=warn",
		"--listen-client-urls=" + etcdURL, "--advertise-client-urls=" + etcdURL,
		"--listen-peer-urls=" + peerURL, "--initial-advertise-peer-urls=" + peerURL, "--initial-cluster=n1=" + peerURL}
}

func (c Cluster) apiserver() []string {
	return []string{"kube-apiserver", "--etcd-servers=" + etcdURL,
		"--advertise-address=" + c.API().Addr().String(), "--bind-address=0.0.0.0", fmt.Sprintf("--secure-port=%d", APIPort),
		"--service-cluster-ip-range=" + join(c.Services()), "--endpoint-reconciler-type=lease",
		"--allow-privileged=true", "--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction",
		"--client-ca-file=" + pkiDir + "ca.crt",
		"--tls-cert-file=" + pkiDir + "apiserver.crt", "--tls-private-key-file=" + pkiDir + "apiserver.key",
		"--kubelet-client-certificate=" + pkiDir + "apiserver-kubelet.crt", "--kubelet-client-key=" + pkiDir + "apiserver-kubelet.key",
		"--kubelet-certificate-authority=" + pkiDir + "ca.crt", "--kubelet-preferred-address-types=InternalIP",
		"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
		"--service-account-key-file=" + pkiDir + "tokens.pub", "--service-account-signing-key-file=" + pkiDir + "tokens.key",
		"--requestheader-client-ca-file=" + pkiDir + "front-proxy-ca.crt", "--requestheader-allowed-names=front-proxy",
		"--requestheader-extra-headers-prefix=X-Remote-Extra-", "--requestheader-group-headers=X-Remote-Group",
		"--requestheader-username-headers=X-Remote-User",
		"--proxy-client-cert-file=" + pkiDir + "front-proxy.crt", "--proxy-client-key-file=" + pkiDir + "front-proxy.key", "--v=1"}
}

// manager finds out soon that a node has gone: it is what tests wait for.
func (c Cluster) manager() []string {
	return append(component("kube-controller-manager", "controller-manager"),
		"--service-account-private-key-file="+pkiDir+"tokens.key", "--root-ca-file="+pkiDir+"ca.crt",
		"--cluster-signing-cert-file="+pkiDir+"ca.crt", "--cluster-signing-key-file="+pkiDir+"ca.key",
		"--use-service-account-credentials=true", "--allocate-node-cidrs=false", "--cluster-cidr="+join(c.PodNetworks()),
		"--node-monitor-period=2s", "--node-monitor-grace-period=16s")
}

func component(program, user string) []string {
	config := node.ConfigDir + "/" + user + ".kubeconfig"
	return []string{program, "--kubeconfig=" + config, "--authentication-kubeconfig=" + config, "--authorization-kubeconfig=" + config,
		"--leader-elect=false", "--v=1"}
}
