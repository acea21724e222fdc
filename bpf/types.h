/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The structs and constants that the programs share with Go, which uses the types generated from these. */
#pragma once
#include "bpf.h"

/*
 * Marks choose the route of a packet, never the rights of a socket: any process with CAP_NET_RAW may set them.
 * The policy rule matches CAPTURE and HOP with one mask (FL_MARK_MASK) and routes both to lo.
 */
enum fl_mark {
	FL_MARK_CAPTURE = 0x6d01, /* an app's captured connection, and the outbound listeners */
	FL_MARK_PROXY = 0x6d02,	  /* the proxy's own connections, and the inbound listeners */
	FL_MARK_HOP = 0x6d05,	  /* the proxy to the app with the client's address */
	FL_MARK_MASK = 0xfffb,
};

/* What a tag says of a socket. Only the keeper, and connect4/6 for PROBE, can write it. */
enum fl_kind {
	FL_KIND_NONE = 0,
	FL_KIND_PROXY = 1,
	FL_KIND_HOP = 2,
	FL_KIND_PROBE = 3, /* connected by the kubelet itself */
};

enum fl_slot {
	FL_SLOT_OUT4 = 0,
	FL_SLOT_OUT6 = 1,
	FL_SLOT_IN4 = 2,
	FL_SLOT_IN6 = 3,
};

enum fl_state {
	FL_STATE_CAPTURE = 1, /* connections are captured */
	FL_STATE_LEAVING = 2, /* new connections pass, live ones still need rules and routes */
};

/* Every way out of a program, one counter each. */
enum fl_verdict {
	FL_OUT_CAPTURED,	/* connect: given to the outbound listener */
	FL_OUT_LOCAL,		/* connect: own address, loopback, link-local or unspecified: passed */
	FL_OUT_TAGGED,		/* connect: a socket of ours: passed */
	FL_OUT_LEAVING,		/* connect: the pod is leaving the mesh: passed */
	FL_OUT_REFUSED,		/* connect: nobody listens for this family: ECONNREFUSED */
	FL_OUT_FORGED,		/* connect: bore a mark of ours without the tag: the mark was taken off */
	FL_OUT_UNBOUND,		/* connect: was bound to a device that dodges the policy route: unbound */
	FL_OUT_DENIED,		/* connect: the socket would not be changed: EPERM */
	FL_SYN_LO_LOCAL,	/* sk_lookup: over lo to the pod itself: passed */
	FL_SYN_OUT,		/* sk_lookup: over lo to a foreign address: outbound listener */
	FL_SYN_FOREIGN,		/* sk_lookup: not to an address of the pod: passed */
	FL_SYN_SELF,		/* sk_lookup: from the pod's own address: passed */
	FL_SYN_PROBE,		/* sk_lookup: a probe of the kubelet: passed */
	FL_SYN_NODE_PROBE,	/* sk_lookup: from the node's address to a probe port: passed */
	FL_SYN_IN,		/* sk_lookup: inbound listener */
	FL_SYN_NO_LISTENER,	/* sk_lookup: the slot is empty: refused */
	FL_SYN_ASSIGN_FAILED,	/* sk_lookup: the listener cannot take it: refused */
	FL_PROBE_SEEN,		/* sockops: the kubelet connects */
	FL_GUARD_PASSED,	/* guard: a SYN of ours, or to a link-local address */
	FL_GUARD_DROPPED,	/* guard: a SYN that went round connect4/6 */
	FL_GUARD_MALFORMED,	/* guard: its headers cannot be read: dropped */
	FL_VERDICTS,
};

/* An IPv6 address, or an IPv4 address mapped into IPv6. Network order. */
struct fl_addr {
	__be32 w[4];
};

struct fl_addr_key {
	__u64 cookie; /* of the network namespace */
	struct fl_addr addr;
};

struct fl_slot_key {
	__u64 cookie;
	enum fl_slot slot;
	__u32 pad;
};

struct fl_port_key {
	__u64 cookie;
	__u32 port; /* host order */
	__u32 pad;
};

struct fl_tuple {
	struct fl_addr src, dst;
	__u16 sport, dport; /* host order */
};

struct fl_pod {
	enum fl_state state;
};

struct fl_tag {
	enum fl_kind kind;
};

/* What was before us in a pod's namespace. Only user space reads it. -1: there was no such sysctl. */
struct fl_undo {
	__s32 tcp_fwmark_accept;
	__s32 fwmark_reflect4;
	__s32 fwmark_reflect6;
	__u32 done; /* 1: the values above are complete */
};

/* What no map of a known type names, so that it gets into BTF and from there into Go. */
struct fl_shared {
	struct fl_slot_key slot_key;
	enum fl_mark mark;
	enum fl_verdict verdict;
};
