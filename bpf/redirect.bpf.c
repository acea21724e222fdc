/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The redirect: connect4/6 mark an app's connection, a policy route turns it round to lo, and sk_lookup gives it to the
 * proxy's listener in the pod. No address is ever rewritten. IPv4 is handled as v4-mapped IPv6 from the first line on.
 */
#include "maps.h"

/* The pod of this instance of fl_sk_lookup. Nothing else differs between the pods. */
volatile const __u64 fl_cookie;
/* The kubelet's cgroup and the host's network namespace. 0: probes are told by the node's addresses. */
volatile const __u64 fl_kubelet;
volatile const __u64 fl_host;
/* Length of the link header of the device that fl_guard is on: 14 for Ethernet, 0 for a device without one. */
volatile const __u32 fl_link_header;

/* Never read: see struct fl_shared. */
const struct fl_shared *volatile const fl_types;

#define PROBE_LIFETIME_NS 5000000000ULL
#define IFINDEX_LO 1

/*
 * A context field by a load at a constant offset: in "if (v4) x = c->a; else x = c->b;" clang makes one load at a
 * computed address of the two, which the verifier refuses.
 */
#define FIELD(ctx, type, f) ({ __u32 v_; asm volatile("%0 = *(u32 *)(%1 + %2)" : "=r"(v_) : "r"(ctx), "i"(offsetof(type, f))); v_; })

#define V4MAPPED bpf_htonl(0xffff)

static __always_inline void count(enum fl_verdict v)
{
	__u32 i = v;
	__u64 *n = bpf_map_lookup_elem(&fl_verdicts, &i);
	if (n)
		__sync_fetch_and_add(n, 1); /* a connect hook may be preempted by another on its CPU */
}

static __always_inline int is_v4(const struct fl_addr *a)
{
	return !a->w[0] && !a->w[1] && a->w[2] == V4MAPPED;
}

static __always_inline int is_loopback(const struct fl_addr *a)
{
	if (is_v4(a))
		return (bpf_ntohl(a->w[3]) >> 24) == 127;
	return !a->w[0] && !a->w[1] && !a->w[2] && a->w[3] == bpf_htonl(1);
}

static __always_inline int is_link_local(const struct fl_addr *a)
{
	if (is_v4(a))
		return (bpf_ntohl(a->w[3]) >> 16) == 0xa9fe; /* 169.254/16 */
	return (a->w[0] & bpf_htonl(0xffc00000)) == bpf_htonl(0xfe800000);
}

static __always_inline int is_unspecified(const struct fl_addr *a)
{
	return !a->w[3] && !a->w[0] && !a->w[1] && (!a->w[2] || a->w[2] == V4MAPPED);
}

static __always_inline int is_same(const struct fl_addr *a, const struct fl_addr *b)
{
	return a->w[0] == b->w[0] && a->w[1] == b->w[1] && a->w[2] == b->w[2] && a->w[3] == b->w[3];
}

static __always_inline int is_own(__u64 cookie, const struct fl_addr *a)
{
	struct fl_addr_key key = { .cookie = cookie, .addr = *a };
	return bpf_map_lookup_elem(&fl_addrs, &key) != 0;
}

static __always_inline int is_our_mark(__u32 mark)
{
	return mark == FL_MARK_CAPTURE || mark == FL_MARK_PROXY || mark == FL_MARK_HOP;
}

/* --- connect: for every TCP connect() of the machine, so the foreign ones leave after one lookup --- */

static __always_inline int set_mark(struct bpf_sock_addr *ctx, __u32 mark)
{
	return bpf_setsockopt(ctx, SOL_SOCKET, SO_MARK, &mark, sizeof(mark));
}

/* A socket may be connected again after a failure, and a process may set marks: none of ours stays on what passes. */
static __always_inline int pass(struct bpf_sock_addr *ctx, struct bpf_sock *sk, enum fl_verdict v)
{
	__u32 mark = sk->mark;
	if (is_our_mark(mark)) {
		if (mark != FL_MARK_CAPTURE)
			count(FL_OUT_FORGED);
		set_mark(ctx, 0);
	}
	count(v);
	return 1;
}

static __always_inline int alive(__u64 cookie, __u32 slot)
{
	struct fl_slot_key key = { .cookie = cookie, .slot = slot };
	struct bpf_sock *sk = bpf_map_lookup_elem(&fl_listeners, &key);
	if (!sk)
		return 0;
	bpf_sk_release(sk);
	return 1;
}

static __always_inline int refuse(enum fl_verdict v, int err)
{
	count(v);
	bpf_set_retval(-err);
	return 0;
}

/*
 * Whether the kubelet itself connects: its exact cgroup, not one below it, and the host's namespace. sockops, which
 * knows the source port, cannot ask for the cgroup of the caller: the tag carries the answer to it.
 */
static __always_inline int note_probe(struct bpf_sock_addr *ctx, __u64 cookie)
{
	if (!fl_kubelet || cookie != fl_host || !ctx->sk)
		return 1;
	if (bpf_get_current_cgroup_id() == fl_kubelet) {
		struct fl_tag *tag = bpf_sk_storage_get(&fl_tags, ctx->sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
		if (tag)
			tag->kind = FL_KIND_PROBE;
		return 1;
	}
	/* a socket that the kubelet passed on is no longer the kubelet's */
	struct fl_tag *tag = bpf_sk_storage_get(&fl_tags, ctx->sk, 0, 0);
	if (tag && tag->kind == FL_KIND_PROBE)
		tag->kind = FL_KIND_NONE;
	return 1;
}

static __always_inline int capture(struct bpf_sock_addr *ctx, struct bpf_sock *sk, __u64 cookie, const struct fl_addr *dst)
{
	__u32 mark = sk->mark, dev = sk->bound_dev_if;

	/* without a proxy the SYN would be dropped on lo and time out: fail closed, and at once */
	if (!alive(cookie, is_v4(dst) ? FL_SLOT_OUT4 : FL_SLOT_OUT6))
		return refuse(FL_OUT_REFUSED, ECONNREFUSED);
	/* a socket bound to a device does not see the route to lo; the kernel lets only privileged processes undo it */
	if (dev && dev != IFINDEX_LO) {
		__u32 none = 0;
		if (bpf_setsockopt(ctx, SOL_SOCKET, SO_BINDTOIFINDEX, &none, sizeof(none)))
			return refuse(FL_OUT_DENIED, EPERM);
		count(FL_OUT_UNBOUND);
	}
	if (set_mark(ctx, FL_MARK_CAPTURE))
		return refuse(FL_OUT_DENIED, EPERM);
	if (mark == FL_MARK_PROXY || mark == FL_MARK_HOP)
		count(FL_OUT_FORGED);
	count(FL_OUT_CAPTURED);
	return 1;
}

static __always_inline int on_connect(struct bpf_sock_addr *ctx, const struct fl_addr *dst)
{
	__u64 cookie = bpf_get_netns_cookie(ctx);
	struct fl_pod *pod = bpf_map_lookup_elem(&fl_pods, &cookie);
	if (!pod)
		return note_probe(ctx, cookie);
	struct bpf_sock *sk = ctx->sk;
	if (!sk)
		return refuse(FL_OUT_DENIED, EPERM); /* does not happen: a connect() has a socket */

	struct fl_tag *tag = bpf_sk_storage_get(&fl_tags, sk, 0, 0);
	if (tag && (tag->kind == FL_KIND_PROXY || tag->kind == FL_KIND_HOP)) {
		count(FL_OUT_TAGGED);
		return 1; /* its mark stays: without HOP the app's answer would leave by the pod's device */
	}
	if (pod->state != FL_STATE_CAPTURE)
		return pass(ctx, sk, FL_OUT_LEAVING);
	if (is_unspecified(dst) || is_loopback(dst) || is_link_local(dst) || is_own(cookie, dst))
		return pass(ctx, sk, FL_OUT_LOCAL);
	return capture(ctx, sk, cookie, dst);
}

SEC("cgroup/connect4")
int fl_connect4(struct bpf_sock_addr *ctx)
{
	if (ctx->protocol != IPPROTO_TCP)
		return 1;
	struct fl_addr dst = { .w = { 0, 0, V4MAPPED, FIELD(ctx, struct bpf_sock_addr, user_ip4) } };
	return on_connect(ctx, &dst);
}

SEC("cgroup/connect6")
int fl_connect6(struct bpf_sock_addr *ctx)
{
	if (ctx->protocol != IPPROTO_TCP)
		return 1;
	struct fl_addr dst = { .w = {
		FIELD(ctx, struct bpf_sock_addr, user_ip6[0]), FIELD(ctx, struct bpf_sock_addr, user_ip6[1]),
		FIELD(ctx, struct bpf_sock_addr, user_ip6[2]), FIELD(ctx, struct bpf_sock_addr, user_ip6[3]) } };
	return on_connect(ctx, &dst);
}

/* --- sk_lookup: for every SYN that reaches the pod and has no connection yet --- */

static __always_inline int give(struct bpf_sk_lookup *ctx, __u32 slot, enum fl_verdict v)
{
	struct fl_slot_key key = { .cookie = fl_cookie, .slot = slot };
	struct bpf_sock *sk = bpf_map_lookup_elem(&fl_listeners, &key);
	if (!sk) {
		/* never SK_PASS: an app that listens on every address would get its own outbound connection */
		count(FL_SYN_NO_LISTENER);
		return SK_DROP;
	}
	/* without NO_REUSEPORT a process that retires would still be given connections */
	long err = bpf_sk_assign(ctx, sk, BPF_SK_LOOKUP_F_NO_REUSEPORT);
	bpf_sk_release(sk);
	if (err) {
		count(FL_SYN_ASSIGN_FAILED);
		return SK_DROP;
	}
	count(v);
	return SK_PASS;
}

static __always_inline int let(enum fl_verdict v)
{
	count(v);
	return SK_PASS;
}

static __always_inline int is_probe(const struct fl_tuple *t)
{
	__u64 *seen = bpf_map_lookup_elem(&fl_probes, t);
	/* after that time the port may be another process's */
	return seen && bpf_ktime_get_ns() - *seen < PROBE_LIFETIME_NS;
}

static __always_inline int is_node_probe(const struct fl_tuple *t)
{
	struct fl_port_key key = { .cookie = fl_cookie, .port = t->dport };
	return bpf_map_lookup_elem(&fl_nodes, &t->src) && bpf_map_lookup_elem(&fl_probe_ports, &key);
}

#define LOOKUP(f) FIELD(ctx, struct bpf_sk_lookup, f)

static __always_inline void read_lookup(struct bpf_sk_lookup *ctx, struct fl_tuple *t)
{
	if (ctx->family == AF_INET) {
		t->src.w[2] = t->dst.w[2] = V4MAPPED;
		t->src.w[3] = LOOKUP(remote_ip4);
		t->dst.w[3] = LOOKUP(local_ip4);
	} else {
		t->src.w[0] = LOOKUP(remote_ip6[0]);
		t->src.w[1] = LOOKUP(remote_ip6[1]);
		t->src.w[2] = LOOKUP(remote_ip6[2]);
		t->src.w[3] = LOOKUP(remote_ip6[3]);
		t->dst.w[0] = LOOKUP(local_ip6[0]);
		t->dst.w[1] = LOOKUP(local_ip6[1]);
		t->dst.w[2] = LOOKUP(local_ip6[2]);
		t->dst.w[3] = LOOKUP(local_ip6[3]);
	}
	t->sport = bpf_ntohs((__be16)LOOKUP(remote_port));
	t->dport = LOOKUP(local_port);
}

SEC("sk_lookup")
int fl_sk_lookup(struct bpf_sk_lookup *ctx)
{
	if (ctx->protocol != IPPROTO_TCP)
		return SK_PASS;
	struct fl_tuple t = {};
	read_lookup(ctx, &t);
	__u32 v6 = !is_v4(&t.dst);

	if (ctx->ingress_ifindex == IFINDEX_LO) {
		if (is_loopback(&t.dst) || is_link_local(&t.dst) || is_own(fl_cookie, &t.dst))
			return let(FL_SYN_LO_LOCAL); /* the app to itself, or the proxy to the app */
		return give(ctx, FL_SLOT_OUT4 + v6, FL_SYN_OUT);
	}
	/* a neighbour on the same link gets no further by a link-local address; the pod itself has it as source too */
	if (!is_own(fl_cookie, &t.dst) && (!is_link_local(&t.dst) || is_same(&t.src, &t.dst)))
		return let(FL_SYN_FOREIGN);
	/* over lo to an address of the pod the kernel names the device that has the address, not lo */
	if (is_own(fl_cookie, &t.src))
		return let(FL_SYN_SELF);
	if (is_probe(&t))
		return let(FL_SYN_PROBE);
	if (is_node_probe(&t))
		return let(FL_SYN_NODE_PROBE);
	return give(ctx, FL_SLOT_IN4 + v6, FL_SYN_IN);
}

/* --- sockops: on the kubelet's cgroup, notes the 4-tuples of its own connections before the SYN leaves --- */

#define SOCKOPS(f) FIELD(ctx, struct bpf_sock_ops, f)

SEC("sockops")
int fl_sockops(struct bpf_sock_ops *ctx)
{
	if (ctx->op != BPF_SOCK_OPS_TCP_CONNECT_CB || !ctx->sk)
		return 1;
	struct fl_tag *tag = bpf_sk_storage_get(&fl_tags, ctx->sk, 0, 0);
	if (!tag || tag->kind != FL_KIND_PROBE)
		return 1; /* another namespace, or a cgroup below the kubelet's */

	struct fl_tuple t = {};
	if (ctx->family == AF_INET) {
		t.src.w[2] = t.dst.w[2] = V4MAPPED;
		t.src.w[3] = SOCKOPS(local_ip4);
		t.dst.w[3] = SOCKOPS(remote_ip4);
	} else { /* a v4-mapped address is in the form that we want already */
		t.src.w[0] = SOCKOPS(local_ip6[0]);
		t.src.w[1] = SOCKOPS(local_ip6[1]);
		t.src.w[2] = SOCKOPS(local_ip6[2]);
		t.src.w[3] = SOCKOPS(local_ip6[3]);
		t.dst.w[0] = SOCKOPS(remote_ip6[0]);
		t.dst.w[1] = SOCKOPS(remote_ip6[1]);
		t.dst.w[2] = SOCKOPS(remote_ip6[2]);
		t.dst.w[3] = SOCKOPS(remote_ip6[3]);
	}
	t.sport = SOCKOPS(local_port);
	t.dport = bpf_ntohl(SOCKOPS(remote_port));
	__u64 now = bpf_ktime_get_ns();
	bpf_map_update_elem(&fl_probes, &t, &now, BPF_ANY);
	count(FL_PROBE_SEEN);
	return 1;
}

#include "guard.h"

char fl_license[] SEC("license") = "Dual BSD/GPL";
