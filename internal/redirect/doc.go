// Package redirect is everything kernel: it captures the TCP connections of enrolled pods for the proxy without rewriting
// an address. cgroup/connect4 and connect6 mark an app's socket, a policy route in the pod turns the SYN round to lo, and
// the pod's sk_lookup program gives it to the proxy's listener there; the accepted socket's own name is the address that
// was dialled.
//
// Promises:
//  1. Fail closed: while a pod is captured and nobody listens, its connections are refused at once, in both directions.
//     Its loopback, its own addresses, link-local addresses and the kubelet's probes go on.
//  2. A socket is ours by its tag in a map that only this package writes, never by its mark.
//  3. Set takes the whole desired state, may be called again after an error or a crash at any step, and then makes up the
//     difference. It is not atomic over the pods, but no pod is ever half captured in a way that lets connections out.
//  4. What is in force outlives the process: links and maps are pinned in one directory per instance.
//  5. A pod that leaves keeps rules, routes and sysctls until its last proxied connection has ended, or the drain
//     deadline; then its namespace is as it was before.
//  6. CleanUp needs no state of a process and touches only what its own instance made.
//  7. Nothing runs in the background: the caller calls Sweep now and then. All methods may be called concurrently.
package redirect
