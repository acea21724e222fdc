package cni

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
)

// Plugin is what the binary does for each command. Stdout takes ADD's result.
type Plugin struct{ Stdout io.Writer }

// Funcs are the commands as the CNI library calls them.
func (p Plugin) Funcs() skel.CNIFuncs {
	return skel.CNIFuncs{Add: p.add, Del: p.del, Check: p.check, GC: p.gc, Status: p.status}
}

// add tells the keeper about a new pod and passes the result of the plugins before on.
func (p Plugin) add(args *skel.CmdArgs) error {
	conf, err := ParseConf(args.StdinData)
	if err != nil {
		return err
	}
	prev, err := conf.prev()
	if err != nil {
		return err
	}
	out, err := conf.output(prev)
	if err != nil {
		return err
	}
	if err := announce(conf, args, prev); err != nil {
		return err
	}
	if _, err := p.Stdout.Write(append(out, '\n')); err != nil {
		return types.NewError(types.ErrIOFailure, "fairlead: print the result: "+err.Error(), "")
	}
	return nil
}

func announce(conf *Conf, args *skel.CmdArgs, prev types.Result) error {
	pod, err := podOf(args.Args)
	if err != nil {
		return err
	}
	if pod.Namespace == "" || isSystem(conf.SystemNamespaces, pod.Namespace) {
		return nil // not a pod of Kubernetes, or one that must start whatever becomes of us
	}
	addrs, err := addresses(prev)
	if err != nil {
		return err
	}
	netns, err := os.Open(args.Netns)
	if err != nil {
		return types.NewError(types.ErrInvalidNetNS, "fairlead: open the pod's network namespace: "+err.Error(), "")
	}
	defer netns.Close()
	r := request(Add, conf, args, pod)
	r.Addresses = addrs
	err = Call(context.Background(), conf.Socket, r, netns)
	if errors.Is(err, ErrKeeperAway) {
		return withoutKeeper(conf, pod, err)
	}
	return err
}

// check asks the keeper whether it still has the pod as ADD left it.
func (p Plugin) check(args *skel.CmdArgs) error {
	conf, err := ParseConf(args.StdinData)
	if err != nil {
		return err
	}
	pod, err := podOf(args.Args)
	if err != nil {
		return err
	}
	if pod.Namespace == "" || isSystem(conf.SystemNamespaces, pod.Namespace) {
		return nil
	}
	netns, err := os.Open(args.Netns)
	if err != nil {
		return types.NewError(types.ErrInvalidNetNS, "fairlead: open the pod's network namespace: "+err.Error(), "")
	}
	defer netns.Close()
	err = Call(context.Background(), conf.Socket, request(Check, conf, args, pod), netns)
	if errors.Is(err, ErrKeeperAway) {
		return withoutKeeper(conf, pod, err)
	}
	return err
}

// del never fails because of us: the pod is going, and the keeper finds out by itself that its namespace is gone.
func (p Plugin) del(args *skel.CmdArgs) error {
	conf, err := ParseConf(args.StdinData)
	if err != nil {
		return err
	}
	pod, err := podOf(args.Args)
	if err != nil {
		pod = Pod{} // the container's id says which
	}
	err = Call(context.Background(), conf.Socket, request(Del, conf, args, pod), nil)
	if err != nil {
		fmt.Fprintln(os.Stderr, "fairlead: the keeper was not told that the pod ended:", err)
	}
	return nil
}

// gc hands the keeper what the runtime still has. Without the keeper there is nothing of ours to collect.
func (p Plugin) gc(args *skel.CmdArgs) error {
	conf, err := ParseConf(args.StdinData)
	if err != nil {
		return err
	}
	r := request(GC, conf, args, Pod{})
	for _, a := range conf.Valid {
		r.Valid = append(r.Valid, Attachment{ContainerID: a.ContainerID, IfName: a.IfName})
	}
	err = Call(context.Background(), conf.Socket, r, nil)
	if errors.Is(err, ErrKeeperAway) {
		return nil
	}
	return err
}

// status never turns a node's network off because of us: runtimes make the node NotReady when it fails, and then even
// system pods could not start. A missing keeper shows up at the pods that need it, with code 11.
func (p Plugin) status(args *skel.CmdArgs) error {
	conf, err := ParseConf(args.StdinData)
	if err != nil {
		return err
	}
	if err := Call(context.Background(), conf.Socket, request(Status, conf, args, Pod{}), nil); err != nil {
		fmt.Fprintln(os.Stderr, "fairlead: enrolled pods cannot start now:", err)
	}
	return nil
}

func request(c Command, conf *Conf, args *skel.CmdArgs, pod Pod) *Request {
	return &Request{Command: c, Network: conf.Name, ContainerID: args.ContainerID, IfName: args.IfName, Pod: pod,
		NetNSPath: args.Netns, Budget: max(1, int64(conf.timeout/time.Millisecond))}
}

// podOf reads CNI_ARGS, "K=V;K=V", of which only the pod's names are ours.
func podOf(args string) (Pod, error) {
	var pod Pod
	for pair := range strings.SplitSeq(args, ";") {
		key, value, _ := strings.Cut(pair, "=")
		switch key {
		case "K8S_POD_NAMESPACE":
			pod.Namespace = value
		case "K8S_POD_NAME":
			pod.Name = value
		case "K8S_POD_UID":
			pod.UID = value
		}
	}
	if pod.Namespace == "" && pod.Name == "" {
		return Pod{}, nil
	}
	if !isName(pod.Namespace, 63) || !isName(pod.Name, 253) || pod.UID != "" && !isToken(pod.UID, 128) {
		return Pod{}, types.NewError(types.ErrInvalidEnvironmentVariables,
			fmt.Sprintf("fairlead: CNI_ARGS name no pod: %.300q", args), "")
	}
	return pod, nil
}
