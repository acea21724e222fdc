/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * The few parts of the kernel's UAPI that redirect.bpf.c uses, so that it builds without any system header.
 * The layouts are those of linux/bpf.h: the verifier checks and rewrites accesses by their offsets.
 */
#pragma once

typedef unsigned char __u8;
typedef unsigned short __u16;
typedef unsigned int __u32;
typedef unsigned long long __u64;
typedef signed int __s32;
typedef __u16 __be16;
typedef __u32 __be32;

#define SEC(name) __attribute__((section(name), used))
#define __uint(name, val) int (*name)[val]
#define __type(name, val) typeof(val) *name
#define __always_inline inline __attribute__((always_inline))
#define offsetof(t, m) __builtin_offsetof(t, m)

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "written and tested for little endian only: see remote_port of struct bpf_sock_ops"
#endif
#define bpf_htons(x) __builtin_bswap16(x)
#define bpf_ntohs(x) __builtin_bswap16(x)
#define bpf_htonl(x) __builtin_bswap32(x)
#define bpf_ntohl(x) __builtin_bswap32(x)

enum { BPF_MAP_TYPE_HASH = 1, BPF_MAP_TYPE_PERCPU_ARRAY = 6, BPF_MAP_TYPE_LRU_HASH = 9, BPF_MAP_TYPE_SOCKHASH = 18, BPF_MAP_TYPE_SK_STORAGE = 24 };
enum { BPF_ANY = 0, BPF_F_NO_PREALLOC = 1, BPF_SK_STORAGE_GET_F_CREATE = 1, BPF_SK_LOOKUP_F_NO_REUSEPORT = 2 };
enum { SK_DROP = 0, SK_PASS = 1, TCX_NEXT = -1, TCX_DROP = 2, BPF_SOCK_OPS_TCP_CONNECT_CB = 3 };

#define AF_INET 2
#define AF_INET6 10
#define IPPROTO_TCP 6
#define SOL_SOCKET 1
#define SO_MARK 36
#define SO_BINDTOIFINDEX 62
#define EPERM 1
#define ECONNREFUSED 111

struct bpf_sock {
	__u32 bound_dev_if;
	__u32 family;
	__u32 type;
	__u32 protocol;
	__u32 mark;
};

struct bpf_sock_addr {
	__u32 user_family;
	__be32 user_ip4;
	__be32 user_ip6[4];
	__u32 user_port;
	__u32 family;
	__u32 type;
	__u32 protocol;
	__u32 msg_src_ip4;
	__u32 msg_src_ip6[4];
	__u32 pad;
	struct bpf_sock *sk __attribute__((aligned(8)));
};

struct bpf_sk_lookup {
	__u64 cookie;
	__u32 family;
	__u32 protocol;
	__be32 remote_ip4;
	__be32 remote_ip6[4];
	__be16 remote_port;
	__u16 zero;
	__be32 local_ip4;
	__be32 local_ip6[4];
	__u32 local_port;
	__u32 ingress_ifindex;
	__u32 pad;
};

struct bpf_sock_ops {
	__u32 op;
	__u32 args[4];
	__u32 family;
	__be32 remote_ip4;
	__be32 local_ip4;
	__be32 remote_ip6[4];
	__be32 local_ip6[4];
	__u32 remote_port; /* network order in the high half */
	__u32 local_port;
	__u32 is_fullsock;
	__u32 stats[23];
	__u64 bytes[2];
	struct bpf_sock *sk __attribute__((aligned(8)));
};

struct __sk_buff {
	__u32 len;
	__u32 pkt_type;
	__u32 mark;
	__u32 queue_mapping;
	__u32 protocol;
	__u32 unused[30];
	__u32 data_meta;
	__u64 flow_keys __attribute__((aligned(8)));
	__u64 tstamp;
	__u32 wire_len;
	__u32 gso_segs;
	struct bpf_sock *sk __attribute__((aligned(8)));
};

_Static_assert(offsetof(struct bpf_sock_addr, sk) == 64, "bpf_sock_addr");
_Static_assert(offsetof(struct bpf_sk_lookup, ingress_ifindex) == 64, "bpf_sk_lookup");
_Static_assert(offsetof(struct bpf_sock_ops, sk) == 184, "bpf_sock_ops");
_Static_assert(offsetof(struct __sk_buff, sk) == 168, "__sk_buff");

static void *(*bpf_map_lookup_elem)(void *map, const void *key) = (void *)1;
static long (*bpf_map_update_elem)(void *map, const void *key, const void *value, __u64 flags) = (void *)2;
static __u64 (*bpf_ktime_get_ns)(void) = (void *)5;
static long (*bpf_skb_load_bytes)(const void *skb, __u32 offset, void *to, __u32 len) = (void *)26;
static long (*bpf_setsockopt)(void *ctx, int level, int optname, void *optval, int optlen) = (void *)49;
static __u64 (*bpf_get_current_cgroup_id)(void) = (void *)80;
static long (*bpf_sk_release)(void *sk) = (void *)86;
static struct bpf_sock *(*bpf_sk_fullsock)(struct bpf_sock *sk) = (void *)95;
static void *(*bpf_sk_storage_get)(void *map, void *sk, void *value, __u64 flags) = (void *)107;
static __u64 (*bpf_get_netns_cookie)(void *ctx) = (void *)122;
static long (*bpf_sk_assign)(void *ctx, void *sk, __u64 flags) = (void *)124;
static int (*bpf_set_retval)(int retval) = (void *)187;
