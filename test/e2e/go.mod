module fairlead.io/fairlead/test/e2e

go 1.26.0

require (
	fairlead.io/fairlead v0.0.0
	fairlead.io/fairlead/test/system v0.0.0-00010101000000-000000000000
	github.com/cilium/ebpf v0.22.0
	github.com/prometheus/common v0.72.0
	github.com/vishvananda/netlink v1.3.1
	github.com/vishvananda/netns v0.0.5
	golang.org/x/sys v0.49.0
)

require (
	github.com/munnerz/goautoneg v0.0.0-20191010083416-a7dc8b61c822 // indirect
	github.com/prometheus/client_model v0.6.3 // indirect
	google.golang.org/protobuf v1.36.12 // indirect
)

replace fairlead.io/fairlead => ../..

replace fairlead.io/fairlead/test/system => ../system
