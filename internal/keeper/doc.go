// Package keeper is the privileged process of a node. It decides which pods are captured, holds their listeners and
// keys, and does for the proxy, over a unix socket, the few things that need a privilege or a key.
//
// Promises:
//  1. Only the controller's list of this node's pods, and CNI calls, change what is captured. The proxy cannot.
//  2. A pod is reported as captured after it is, and is released only when the controller says so, its sandbox is
//     deleted, or its network namespace has gone. Doubt keeps it captured.
//  3. A pod of an enrolled or unknown namespace never starts outside of the mesh: without the controller's word its ADD
//     is refused for now. A pod of a namespace that is known as not enrolled always passes.
//  4. Private keys leave the process to the keys directory only (a tmpfs, 0700) and are wiped when the account's last
//     pod has left. A signature is made over a TLS 1.3 CertificateVerify only, for accounts with a captured pod here and for
//     the proxy's own identity.
//  5. Without a proxy, connections wait for it in the listeners for Config.Away; then new ones are refused until it is back.
//  6. Without the controller, after a restart too, everything goes on from pins, disk and tmpfs.
//  7. Files are replaced in one step; a damaged one is reported, set aside and never fatal.
//  8. Nothing outlives Run, and what is in force in the kernel stays so when it returns.
package keeper
