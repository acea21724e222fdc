package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
)

// Offsets in struct bpf_sock_addr (include/uapi/linux/bpf.h).
const (
	userIP4  = 4
	userPort = 24
)

// rewrite does for one service what a replacement for kube-proxy does for all: a program on connect4 of the node's whole
// cgroup tree puts a backend's address in the place of the service's. It is detached at the end of the input, or when the time is over.
func rewrite(ctx context.Context, args []string) (any, error) {
	if len(args) != 3 {
		return nil, errors.New("service's address:port, backend's address:port, how long")
	}
	from, err := netip.ParseAddrPort(args[0])
	if err != nil {
		return nil, err
	}
	to, err := netip.ParseAddrPort(args[1])
	if err != nil {
		return nil, err
	}
	length, err := time.ParseDuration(args[2])
	if err != nil {
		return nil, err
	}
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "e2e_rewrite", Type: ebpf.CGroupSockAddr, AttachType: ebpf.AttachCGroupInet4Connect, License: "GPL",
		Instructions: asm.Instructions{
			asm.LoadMem(asm.R2, asm.R1, userIP4, asm.Word),
			asm.JNE.Imm32(asm.R2, address(from), "pass"),
			asm.LoadMem(asm.R2, asm.R1, userPort, asm.Word),
			asm.JNE.Imm32(asm.R2, port(from), "pass"),
			asm.Mov.Imm32(asm.R2, address(to)),
			asm.StoreMem(asm.R1, userIP4, asm.R2, asm.Word),
			asm.Mov.Imm32(asm.R2, port(to)),
			asm.StoreMem(asm.R1, userPort, asm.R2, asm.Word),
			asm.Mov.Imm(asm.R0, 1).WithSymbol("pass"),
			asm.Return(),
		},
	})
	if err != nil {
		return nil, fmt.Errorf("load: %w", err)
	}
	defer prog.Close()
	root, err := cgroup2()
	if err != nil {
		return nil, err
	}
	l, err := link.AttachCgroup(link.CgroupOptions{Path: root, Attach: ebpf.AttachCGroupInet4Connect, Program: prog})
	if err != nil {
		return nil, fmt.Errorf("attach: %w", err)
	}
	defer l.Close()
	ended := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, os.Stdin)
		ended <- err
	}()
	select {
	case <-ctx.Done():
	case <-time.After(length):
	case err = <-ended:
	}
	return nil, err
}

// The kernel shows both in network order.
func address(a netip.AddrPort) int32 { return int32(binary.LittleEndian.Uint32(a.Addr().AsSlice())) }

func port(a netip.AddrPort) int32 { return int32(a.Port()>>8 | a.Port()<<8) }
