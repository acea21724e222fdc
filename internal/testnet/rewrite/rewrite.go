// Package rewrite does to service addresses what a replacement for kube-proxy does: a program at connect() puts the address
// of a pod in place of the Service's. It is for tests, of the mesh beside such a program.
package rewrite

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
)

// Name is that of the programs, as the kernel shows it.
const Name = "test_rewrite"

// Rule says what is put in place of an address. Both are of one family.
type Rule struct{ From, To netip.AddrPort }

// Rewriter is the programs at work.
type Rewriter struct{ links map[ebpf.AttachType]link.Link }

// families are the hooks of IPv4 and of everything else.
var families = map[ebpf.AttachType]bool{ebpf.AttachCGroupInet4Connect: true, ebpf.AttachCGroupInet6Connect: false}

// Attach has every connect() to a rule's address, of processes in the cgroup and those below it, go to another one. No other
// connect is touched.
func Attach(cgroup string, rules ...Rule) (*Rewriter, error) {
	r := &Rewriter{links: map[ebpf.AttachType]link.Link{}}
	err := each(rules, func(hook ebpf.AttachType, p *ebpf.Program) (err error) {
		r.links[hook], err = link.AttachCgroup(link.CgroupOptions{Path: cgroup, Attach: hook, Program: p})
		if err != nil {
			delete(r.links, hook)
		}
		return err
	})
	if err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

// Set replaces the rules. The programs keep their place among others at the cgroup.
func (r *Rewriter) Set(rules ...Rule) error {
	return each(rules, func(hook ebpf.AttachType, p *ebpf.Program) error { return r.links[hook].Update(p) })
}

// each loads the program of each family, for as long as it is used.
func each(rules []Rule, use func(ebpf.AttachType, *ebpf.Program) error) error {
	for hook, v4 := range families {
		p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Name: Name, Type: ebpf.CGroupSockAddr, AttachType: hook, License: "Apache-2.0", Instructions: program(v4, rules)})
		if err != nil {
			return fmt.Errorf("load %v: %w", hook, err)
		}
		err = errors.Join(use(hook, p), p.Close()) // the link holds it
		if err != nil {
			return fmt.Errorf("attach %v: %w", hook, err)
		}
	}
	return nil
}

// Close detaches the programs.
func (r *Rewriter) Close() error {
	var errs []error
	for _, l := range r.links {
		errs = append(errs, l.Close())
	}
	r.links = nil
	return errors.Join(errs...)
}

// Offsets in struct bpf_sock_addr.
const (
	offsetIP4  = 4
	offsetIP6  = 8
	offsetPort = 24
)

// field is a word of the context, and what it is for an address.
type field struct {
	offset int16
	value  int32
}

func fields(a netip.AddrPort) []field {
	out := []field{}
	offset := int16(offsetIP6)
	if a.Addr().Is4() {
		offset = offsetIP4
	}
	bytes := a.Addr().AsSlice()
	for i := 0; i < len(bytes); i += 4 {
		out = append(out, field{offset + int16(i), int32(binary.NativeEndian.Uint32(bytes[i:]))})
	}
	port := binary.BigEndian.AppendUint16(nil, a.Port())
	return append(out, field{offsetPort, int32(binary.NativeEndian.Uint16(port))})
}

// program compares the address with each rule's in turn.
func program(v4 bool, rules []Rule) asm.Instructions {
	var code asm.Instructions
	for i, rule := range rules {
		if rule.From.Addr().Is4() != v4 {
			continue
		}
		next := fmt.Sprint("after_", i)
		for _, f := range fields(rule.From) {
			code = append(code, asm.LoadMem(asm.R2, asm.R1, f.offset, asm.Word), asm.JNE.Imm32(asm.R2, f.value, next))
		}
		for _, f := range fields(rule.To) {
			code = append(code, asm.Mov.Imm32(asm.R2, f.value), asm.StoreMem(asm.R1, f.offset, asm.R2, asm.Word))
		}
		code = append(code, asm.Ja.Label("pass"), asm.Mov.Imm(asm.R0, 0).WithSymbol(next))
	}
	return append(code, asm.Mov.Imm(asm.R0, 1).WithSymbol("pass"), asm.Return())
}
