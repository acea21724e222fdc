/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* One set of maps for all pods of an instance. Above each: key, value, who writes it, what overflow means. */
#pragma once
#include "types.h"

#define FL_MAX_PODS 4096

/* netns cookie -> state. Written by the keeper. Full: the next pod cannot be enrolled. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, FL_MAX_PODS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u64);
	__type(value, struct fl_pod);
} fl_pods SEC(".maps");

/* (netns cookie, address) -> 1: the address is the pod's own. Written by the keeper. Full: the next pod cannot be enrolled. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4 * FL_MAX_PODS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct fl_addr_key);
	__type(value, __u32);
} fl_addrs SEC(".maps");

/*
 * (netns cookie, slot) -> listener. Written by the keeper. A closed listener leaves the map by itself: that is the test
 * of liveness. Full: the next pod cannot be enrolled. Sizes and not types, since the kernel takes no BTF for sockets.
 */
struct {
	__uint(type, BPF_MAP_TYPE_SOCKHASH);
	__uint(max_entries, 4 * FL_MAX_PODS);
	__uint(key_size, sizeof(struct fl_slot_key));
	__uint(value_size, sizeof(__u64));
} fl_listeners SEC(".maps");

/* socket -> kind. Written by the keeper through the socket's descriptor, and by connect4/6 for probes. Cannot be full. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct fl_tag);
} fl_tags SEC(".maps");

/* 4-tuple of a probe -> time of its connect(). Written by sockops. Full: the oldest goes, and its probe is captured. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, struct fl_tuple);
	__type(value, __u64);
} fl_probes SEC(".maps");

/* (netns cookie, port) -> 1: a probe port of the pod. Written by the keeper. Full: the next pod cannot be enrolled. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16 * FL_MAX_PODS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct fl_port_key);
	__type(value, __u32);
} fl_probe_ports SEC(".maps");

/* address -> 1: an address of the node, if probes are told by it. Written by the keeper. Full: the instance does not open. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 256);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct fl_addr);
	__type(value, __u32);
} fl_nodes SEC(".maps");

/* netns cookie -> what to restore. Written and read by the keeper only. Full: the next pod cannot be enrolled. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, FL_MAX_PODS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u64);
	__type(value, struct fl_undo);
} fl_undos SEC(".maps");

/* verdict -> count. Written by the programs. Has one entry for each. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, FL_VERDICTS);
	__type(key, __u32);
	__type(value, __u64);
} fl_verdicts SEC(".maps");
