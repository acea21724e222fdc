/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The guard, on the egress of a pod's device: a SYN leaves only from a socket with our tag, so raw and packet sockets
 * cannot open a connection past the redirect. Packet sockets with PACKET_QDISC_BYPASS do step out: they skip tc.
 */
#pragma once

#define ETH_P_IP 0x0800
#define ETH_P_IPV6 0x86dd
#define ETH_P_8021Q 0x8100
#define ETH_P_8021AD 0x88a8
#define TCP_FLAGS 13 /* offset of the flags in the header */
#define TCP_SYN 0x02
#define TCP_ACK 0x10
#define MAX_EXTENSIONS 6

/* Where the headers of a packet are, as far as they were read. */
struct fl_packet {
	__u32 off;
	__u32 proto; /* first the EtherType, then the transport protocol */
	struct fl_addr dst;
};

enum { READ_DONE, READ_OTHER, READ_MALFORMED };

/* The type in the frame and not the one in the skb, which a packet socket may choose. */
static __always_inline int read_link(struct __sk_buff *skb, struct fl_packet *p)
{
	__u8 version;
	__be16 type;

	if (!fl_link_header) {
		if (bpf_skb_load_bytes(skb, 0, &version, 1))
			return READ_MALFORMED;
		p->proto = version >> 4 == 4 ? ETH_P_IP : ETH_P_IPV6;
		return READ_DONE;
	}
	p->off = 12;
	for (int tags = 0; tags < 3; tags++) {
		if (bpf_skb_load_bytes(skb, p->off, &type, sizeof(type)))
			return READ_MALFORMED;
		p->off += 2;
		p->proto = bpf_ntohs(type);
		if (p->proto != ETH_P_8021Q && p->proto != ETH_P_8021AD)
			return READ_DONE;
		p->off += 2;
	}
	return READ_MALFORMED;
}

static __always_inline int read_ip4(struct __sk_buff *skb, struct fl_packet *p)
{
	__u8 h[20];

	if (bpf_skb_load_bytes(skb, p->off, h, sizeof(h)) || h[0] >> 4 != 4)
		return READ_MALFORMED;
	__u32 fragment = (h[6] & 0x1f) << 8 | h[7];
	if (fragment == 1 && h[9] == IPPROTO_TCP)
		return READ_MALFORMED; /* would lie over the flags of the first (RFC 3128) */
	if (fragment)
		return READ_OTHER; /* a later fragment: of no use without the first, which is looked at */
	p->proto = h[9];
	p->dst.w[2] = V4MAPPED;
	__builtin_memcpy(&p->dst.w[3], h + 16, 4);
	p->off += (h[0] & 0xf) * 4;
	return READ_DONE;
}

static __always_inline int read_ip6(struct __sk_buff *skb, struct fl_packet *p)
{
	__u8 h[40], x[8];

	if (bpf_skb_load_bytes(skb, p->off, h, sizeof(h)) || h[0] >> 4 != 6)
		return READ_MALFORMED;
	p->proto = h[6];
	__builtin_memcpy(&p->dst, h + 24, 16);
	p->off += 40;
	for (int i = 0; i < MAX_EXTENSIONS; i++) {
		switch (p->proto) {
		case 0: case 43: case 60: case 51: case 44: /* hop-by-hop, routing, destination, authentication, fragment */
			break;
		default:
			return READ_DONE;
		}
		if (bpf_skb_load_bytes(skb, p->off, x, sizeof(x)))
			return READ_MALFORMED;
		if (p->proto == 44) {
			if (((x[2] << 8 | x[3]) & 0xfff8) != 0)
				return READ_OTHER; /* a later fragment */
			p->off += 8;
		} else if (p->proto == 51) {
			p->off += (x[1] + 2) * 4;
		} else {
			p->off += (x[1] + 1) * 8;
		}
		p->proto = x[0];
	}
	return READ_MALFORMED; /* nobody honest sends so many */
}

static __always_inline int read_packet(struct __sk_buff *skb, struct fl_packet *p)
{
	int r = read_link(skb, p);
	if (r != READ_DONE)
		return r;
	if (p->proto == ETH_P_IP)
		return read_ip4(skb, p);
	if (p->proto == ETH_P_IPV6)
		return read_ip6(skb, p);
	return READ_OTHER;
}

static __always_inline int is_tagged(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;
	if (!sk)
		return 0;
	sk = bpf_sk_fullsock(sk);
	if (!sk)
		return 0;
	struct fl_tag *tag = bpf_sk_storage_get(&fl_tags, sk, 0, 0);
	return tag && tag->kind == FL_KIND_PROXY;
}

static __always_inline int drop(enum fl_verdict v)
{
	count(v);
	return TCX_DROP;
}

SEC("tcx/egress")
int fl_guard(struct __sk_buff *skb)
{
	struct fl_packet p = {};
	__u8 flags;

	int r = read_packet(skb, &p);
	if (r == READ_OTHER)
		return TCX_NEXT;
	if (r == READ_MALFORMED)
		return drop(FL_GUARD_MALFORMED);
	if (p.proto != IPPROTO_TCP)
		return TCX_NEXT;
	/* a first fragment too short for the flags would hide the SYN in the second */
	if (bpf_skb_load_bytes(skb, p.off + TCP_FLAGS, &flags, 1))
		return drop(FL_GUARD_MALFORMED);
	if ((flags & (TCP_SYN | TCP_ACK)) != TCP_SYN)
		return TCX_NEXT;
	/* connect4/6 let an app connect to a link-local address itself */
	if (!is_tagged(skb) && !is_link_local(&p.dst))
		return drop(FL_GUARD_DROPPED);
	count(FL_GUARD_PASSED);
	return TCX_NEXT;
}
