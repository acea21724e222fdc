package kube

// The names of what the controller and its chart share. docs/design/0002-on-kubernetes.md has the table.
const (
	// Controller is the Deployment, its ServiceAccount, its Service, its Lease and its EndpointSlice.
	Controller = "fairlead-controller"
	// Node is the DaemonSet and its ServiceAccount.
	Node = "fairlead-node"
	// Cleanup is the DaemonSet that takes everything of ours off the nodes.
	Cleanup = "fairlead-cleanup"
	// Uninstall is the ServiceAccount of the Job that runs `controller uninstall`.
	Uninstall = "fairlead-uninstall"
	// IssuerSecret and RootsConfigMap are what the flags of the same names say by default.
	IssuerSecret   = "fairlead-issuer"
	RootsConfigMap = "fairlead-roots"
	// LeaveConfigMap has everybody leave the mesh while it exists.
	LeaveConfigMap = "fairlead-leave"
	// Audience is what a keeper's token must be made out to.
	Audience = "fairlead-controller"
)

const (
	generatedLabel = "fairlead.io/generated" // "true" on what the controller has made, not the chart
	annotations    = "fairlead.io/"          // prefix of the annotations that are ours

	certKey  = "tls.crt" // of the issuer's Secret
	keyKey   = "tls.key"
	rootsKey = "ca.crt" // of the roots' ConfigMap, and of the Secret where its owner puts it there

	nodesPort = "nodes" // ports of the controller's Service
	adminPort = "admin"
)
