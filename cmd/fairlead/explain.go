package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"

	"fairlead.io/fairlead/internal/compile"
	"fairlead.io/fairlead/internal/fleet"
	"fairlead.io/fairlead/internal/kube/remote"
	"fairlead.io/fairlead/internal/node/debug"
)

func (t *tool) explainCommand() *cobra.Command {
	var asked request
	cmd := &cobra.Command{
		Use:     "explain SRC DST",
		GroupID: "see",
		Short:   "what would become of a connection or request, decision by decision",
		Long: `Walks a connection from a pod to a destination: is it in the mesh, is its traffic given to the proxy, who is it, what does the
address stand for, which endpoint would be chosen, how is it secured, and what does the other node say to it?

The answers come from the proxies of both nodes, by the functions that decide on real connections. Nothing is sent.

With --path, --method or --header it walks a request through routes and policies too: which rule it meets, which backends and
weights the rule has, what TrafficPolicies make of it and which of them each part is from, and whether the other side lets it in.

SRC is a pod, or KIND/NAME of a workload. DST is SERVICE[.NAMESPACE][:PORT], pod/NAME:PORT or ADDRESS:PORT.`,
		Example: `  fairlead explain -n shop deploy/web cart:8080
  fairlead explain -n shop web-0 pod/cart-0:8080
  fairlead explain -n shop deploy/web cart:8080 --method POST --path /items --header 'x-user: canary'
  fairlead explain -n shop web-0 93.184.216.34:443`,
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: t.completeNames(aPod),
		RunE: func(cmd *cobra.Command, args []string) error {
			return t.explain(cmd.Context(), args[0], args[1], asked)
		},
	}
	t.formats(cmd, "table", "wide", "json")
	f := cmd.Flags()
	f.StringVar(&asked.method, "method", "", "method of the request that is asked about; GET without")
	f.StringVar(&asked.path, "path", "", "its path, with its query; / without")
	f.StringArrayVar(&asked.headers, "header", nil, "a header field of it, as NAME:VALUE; may be repeated")
	return cmd
}

// request is what is asked about beside the connection; the zero value is nothing.
type request struct {
	method, path string
	headers      []string
}

// on puts it into a question.
func (r *request) on(query url.Values) url.Values {
	if r.method != "" {
		query.Set("method", r.method)
	}
	if r.path != "" {
		query.Set("path", r.path)
	}
	if len(r.headers) > 0 {
		query["header"] = r.headers
	}
	return query
}

// walk is an explanation, as it comes together.
type walk struct {
	t       *tool
	f       *fleet.Fleet
	nodes   []corev1.Pod
	Source  part  `json:"source"`
	Server  *part `json:"server,omitempty"` // where the other end is a pod of the mesh
	src     *corev1.Pod
	address netip.AddrPort
	request request
}

// part is what one side says.
type part struct {
	Of string `json:"of"`
	*debug.Explanation
}

func (p *part) add(ok bool, name, format string, args ...any) {
	p.Steps = append(p.Steps, debug.Step{Name: name, OK: ok, Text: fmt.Sprintf(format, args...)})
}

func (t *tool) explain(ctx context.Context, src, dst string, asked request) error {
	c, err := t.connect()
	if err != nil {
		return err
	}
	w := &walk{t: t, f: t.fleet(c), request: asked}
	if w.src, err = t.findPod(ctx, c, src); err != nil {
		return err
	}
	w.Source = part{Of: w.src.Namespace + "/" + w.src.Name, Explanation: &debug.Explanation{Node: w.src.Spec.NodeName}}
	if w.nodes, err = w.f.NodePods(ctx); err != nil {
		return err
	}
	if err := w.enrolment(ctx); err != nil {
		return err
	}
	if w.address, err = w.resolve(ctx, dst); err != nil {
		return err
	}
	if err := w.ask(ctx, &w.Source, w.src, w.request.on(url.Values{"dst": {w.address.String()}})); err != nil {
		return err
	}
	w.origins(ctx)
	if err := w.server(ctx); err != nil {
		return err
	}
	if t.format == "json" {
		return printJSON(t.out, w)
	}
	w.show()
	return nil
}

// enrolment is what labels say.
func (w *walk) enrolment(ctx context.Context) error {
	ns, err := remote.Get[corev1.Namespace](ctx, w.f.Client, "", w.src.Namespace)
	if err != nil {
		return err
	}
	wanted, err := compile.Wanted(ns, w.src)
	switch {
	case err != nil:
		w.Source.add(false, "enrolment", "%v: the pod is not in the mesh", err)
	case w.src.Spec.HostNetwork:
		w.Source.add(false, "enrolment", "the pod has its node's network, and so is never in the mesh")
	case !wanted:
		w.Source.add(false, "enrolment", "neither the pod nor namespace %s bears the label %s: %s", ns.Name, compile.EnrolLabel, compile.Enabled)
	default:
		w.Source.add(true, "enrolment", "the pod is to be in the mesh, by the label %s", compile.EnrolLabel)
	}
	return nil
}

// resolve finds the address that the pod would dial.
func (w *walk) resolve(ctx context.Context, dst string) (netip.AddrPort, error) {
	if a, err := netip.ParseAddrPort(dst); err == nil {
		return a, nil
	}
	c := w.f.Client
	if rest, ok := strings.CutPrefix(dst, "pod/"); ok {
		to, err := parseService(rest, c.Namespace())
		if err != nil || to.port == 0 {
			return netip.AddrPort{}, fmt.Errorf("%q: want pod/NAME:PORT", dst)
		}
		p, err := remote.Get[corev1.Pod](ctx, c, c.Namespace(), to.name)
		if err != nil {
			return netip.AddrPort{}, err
		}
		return addressOf(p.Status.PodIP, to.port)
	}
	to, err := parseService(dst, w.src.Namespace)
	if err != nil {
		return netip.AddrPort{}, err
	}
	svc, err := remote.Get[corev1.Service](ctx, c, to.namespace, to.name)
	if err != nil {
		return netip.AddrPort{}, err
	}
	if to.port == 0 && len(svc.Spec.Ports) == 1 {
		to.port = int(svc.Spec.Ports[0].Port)
	}
	switch {
	case to.port == 0:
		return netip.AddrPort{}, fmt.Errorf("service %s has %d ports: say which, as in %s:%d", to.name, len(svc.Spec.Ports), dst, firstPort(svc))
	case svc.Spec.Type == corev1.ServiceTypeExternalName:
		return netip.AddrPort{}, fmt.Errorf("service %s is another name of %s: give its address and port", to.name, svc.Spec.ExternalName)
	case svc.Spec.ClusterIP == corev1.ClusterIPNone || svc.Spec.ClusterIP == "":
		return netip.AddrPort{}, fmt.Errorf("service %s is headless: DNS gives the addresses of its pods; say which one, as pod/NAME:PORT", to.name)
	}
	w.Source.add(true, "name", "%s.%s is %s", to.name, to.namespace, svc.Spec.ClusterIP)
	return addressOf(svc.Spec.ClusterIP, to.port)
}

func firstPort(svc *corev1.Service) int32 {
	if len(svc.Spec.Ports) == 0 {
		return 80
	}
	return svc.Spec.Ports[0].Port
}

func addressOf(ip string, port int) (netip.AddrPort, error) {
	a, err := netip.ParseAddr(ip)
	if err != nil {
		return netip.AddrPort{}, errors.New("it has no address yet")
	}
	return netip.AddrPortFrom(a, uint16(port)), nil
}

// ask has the proxy of a pod's node go on.
func (w *walk) ask(ctx context.Context, p *part, pod *corev1.Pod, query url.Values) error {
	query.Set("pod", string(pod.UID))
	told := fleet.Proxies[debug.Explanation](ctx, w.f, proxiesOf(w.nodes, pod.Spec.NodeName), debug.ExplainPath, query)
	slices.Reverse(told) // the newest proxy of the node knows
	for _, t := range told {
		if t.Err == nil {
			p.Node = t.What.Node
			p.Steps = append(p.Steps, t.What.Steps...)
			p.Service, p.Endpoint, p.Treatment = t.What.Service, t.What.Endpoint, t.What.Treatment
			return nil
		}
	}
	if len(told) == 0 {
		p.add(false, "proxy", "node %s has no pod of Fairlead", pod.Spec.NodeName)
		return nil
	}
	p.add(false, "proxy", "node %s: %v", pod.Spec.NodeName, told[0].Err)
	return nil
}

// server asks the other side, if it is a pod of the mesh.
func (w *walk) server(ctx context.Context) error {
	to := w.Source.Endpoint
	if w.Source.Service != nil {
		for i, e := range w.Source.Service.Endpoints {
			if e.Ready && (to == nil || e.InMesh && !to.InMesh) {
				to = &w.Source.Service.Endpoints[i]
			}
		}
	}
	if to == nil || to.UID == "" || to.UID == string(w.src.UID) || !to.InMesh {
		return nil
	}
	pod, err := remote.Get[corev1.Pod](ctx, w.f.Client, to.Namespace, to.Pod)
	if err != nil {
		return err
	}
	at, err := netip.ParseAddrPort(to.Address)
	if err != nil {
		return err
	}
	w.Server = &part{Of: pod.Namespace + "/" + pod.Name, Explanation: &debug.Explanation{Node: pod.Spec.NodeName}}
	return w.ask(ctx, w.Server, pod, w.request.on(url.Values{"src": {w.src.Status.PodIP}, "port": {fmt.Sprint(at.Port())}}))
}

func (w *walk) show() {
	w.Source.show(w.t, "from")
	if s := w.Source.Service; s != nil && len(s.Endpoints) > 0 {
		fmt.Fprintln(w.t.out)
		var all []endpointJSON
		for _, e := range s.Endpoints {
			all = append(all, endpointJSON{w.Source.Node, s.Number, s.Family, e})
		}
		w.t.printEndpoints(all)
	}
	if w.Server != nil {
		fmt.Fprintln(w.t.out)
		w.Server.show(w.t, "to")
	}
}

func (p *part) show(t *tool, end string) {
	fmt.Fprintf(t.out, "%s pod %s on node %s\n", end, p.Of, p.Node)
	for _, s := range p.Steps {
		sign := "✓"
		if !s.OK {
			sign = "✗"
		}
		fmt.Fprintf(t.out, "  %s %-12s %s\n", sign, s.Name, s.Text)
	}
}
