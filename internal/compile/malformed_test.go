package compile

import (
	"strings"
	"testing"
)

func TestMalformedDocuments(t *testing.T) {
	svc := func(spec string) string {
		return "apiVersion: v1\nkind: Service\nmetadata: {name: bad, namespace: shop}\nspec: {" + spec + "}"
	}
	slice := func(rest string) string {
		return "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: bad, namespace: shop, labels: {kubernetes.io/service-name: s}}\n" + rest
	}
	bad := func(meta, spec, status string) string {
		return "apiVersion: v1\nkind: Pod\nmetadata: {name: bad, namespace: shop" + meta + "}\nspec: {nodeName: a" + spec + "}\nstatus: {" + status + "}"
	}
	for _, c := range []struct{ name, doc, cause string }{
		{"no YAML", "{", "read YAML"},
		{"tabs", "kind:\tPod\n\tx: y", "read YAML"},
		{"a list", "- a\n- b", "read YAML"},
		{"a word", "hello", "read YAML"},
		{"no kind", "apiVersion: v1\nmetadata: {name: x}", "no kind"},
		{"no name", "apiVersion: v1\nkind: Pod\nmetadata: {namespace: shop}", "not a DNS name"},
		{"upper case", "apiVersion: v1\nkind: Pod\nmetadata: {namespace: shop, name: Web}", "not a DNS name"},
		{"path in the name", "apiVersion: v1\nkind: Pod\nmetadata: {namespace: shop, name: ../x}", "not a DNS name"},
		{"path in the namespace", "apiVersion: v1\nkind: Pod\nmetadata: {namespace: a/b, name: x}", "not a DNS label"},
		{"unknown field", bad("", ", nodname: b", ""), "unknown field"},
		{"field twice", bad("", ", nodeName: b", ""), "already set"},
		{"wrong type", bad("", ", hostNetwork: 3", ""), "cannot unmarshal"},
		{"pod address", bad("", "", "podIP: 10.0.0"), "bad address"},
		{"pod address with a zone", bad("", "", "podIP: 'fe80::1%eth0'"), "bad address"},
		{"pod at loopback", bad("", "", "podIP: 127.0.0.1"), "bad address"},
		{"pod address twice", bad("", "", "podIPs: [{ip: 10.0.0.8}, {ip: 10.0.0.8}]"), "twice"},
		{"three addresses", bad("", "", "podIPs: [{ip: 10.0.0.8}, {ip: 10.0.0.9}, {ip: 10.0.0.7}]"), "more than two"},
		{"uid", bad(", uid: ../../etc", "", ""), "uid"},
		{"label", bad(", labels: {fairlead.io/mesh: 'yes'}", "", ""), "neither"},
		{"node name", strings.Replace(bad("", "", ""), "nodeName: a", "nodeName: A/B", 1), "nodeName"},
		{"account", bad("", ", serviceAccountName: ghost", ""), "unknown service account"},
		{"namespace's label", "apiVersion: v1\nkind: Namespace\nmetadata: {name: bad, labels: {fairlead.io/mesh: 'true'}}", "neither"},
		{"cluster IP", svc("clusterIP: 10.0.0.256"), "bad address"},
		{"cluster IPs disagree", svc("clusterIP: 10.9.0.1, clusterIPs: [10.9.0.2]"), "not the first"},
		{"port", svc("clusterIP: 10.9.0.1, ports: [{port: 70000}]"), "port 70000"},
		{"port twice", svc("clusterIP: 10.9.0.1, ports: [{port: 80, name: a}, {port: 80, name: b}]"), "twice"},
		{"affinity", svc("clusterIP: 10.9.0.1, sessionAffinity: Cookie"), "sessionAffinity"},
		{"policy", svc("clusterIP: 10.9.0.1, internalTrafficPolicy: Near"), "internalTrafficPolicy"},
		{"type", svc("clusterIP: 10.9.0.1, type: Magic"), "unknown type"},
		{"external name", svc("type: ExternalName"), "externalName"},
		{"no cluster IP", svc("ports: [{port: 80}]"), "no cluster IP"},
		{"address type", slice("addressType: FQDN\nendpoints: []"), "addressType"},
		{"family", slice("addressType: IPv6\nendpoints: [{addresses: [10.0.0.1]}]"), "not of addressType"},
		{"endpoint", slice("addressType: IPv4\nendpoints: [{addresses: [x]}]"), "bad address"},
		{"no address", slice("addressType: IPv4\nendpoints: [{addresses: []}]"), "no address"},
		{"slice port", slice("addressType: IPv4\nports: [{port: 0}]\nendpoints: []"), "port 0"},
		{"slice of nobody", "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: bad, namespace: shop}\naddressType: IPv4\nendpoints: []", "no service"},
		{"node address", "apiVersion: v1\nkind: Node\nmetadata: {name: bad}\nstatus: {addresses: [{type: InternalIP, address: x}]}", "bad address"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, f := NewWorld(Config{}), newFiles()
			good := []string{nsShop, podDoc("p", "10.0.0.1", "")}
			apply(t, w, f, "f.yaml", good[0], c.doc, good[1])
			problems, _ := f.problems()
			problems = append(problems, w.Problems()...)
			if len(problems) != 1 || !strings.Contains(problems[0].Err.Error(), c.cause) {
				t.Fatalf("problems %v", problems)
			}
			if p := problems[0]; p.File != "f.yaml" || p.Line < 5 || p.Line > 11 {
				t.Errorf("at %s:%d", p.File, p.Line)
			}
			if !enrolledUID(w, "a", "u-p") {
				t.Error("the good pod behind it is not served")
			}
		})
	}
}

func TestALastGoodVersionStaysWhenTheNewOneIsMalformed(t *testing.T) {
	for name, broken := range map[string]string{
		"named":    strings.Replace(podDoc("p", "10.0.0.9", ""), "nodeName", "nodName", 1),
		"bad data": podDoc("p", "10.0.0", ""),
		"nameless": "{{",
	} {
		w, f := NewWorld(Config{}), newFiles()
		apply(t, w, f, "f.yaml", nsShop, podDoc("p", "10.0.0.1", ""), podDoc("q", "10.0.0.2", ""))
		apply(t, w, f, "f.yaml", nsShop, broken, podDoc("q", "10.0.0.3", ""))
		if p := pod(t, w, "u-p"); p == nil || p.Addrs[0].String() != "10.0.0.1" {
			t.Errorf("%s: %v", name, p)
		}
		if p := pod(t, w, "u-q"); p == nil || p.Addrs[0].String() != "10.0.0.3" {
			t.Errorf("%s: the object beside it: %v", name, p)
		}
		apply(t, w, f, "f.yaml", nsShop, podDoc("q", "10.0.0.3", ""))
		if problems, _ := f.problems(); pod(t, w, "u-p") != nil || len(problems)+len(w.Problems()) != 0 {
			t.Errorf("%s: mended: %v", name, pod(t, w, "u-p"))
		}
	}
}

func TestIgnoredKindsAreNoted(t *testing.T) {
	f := newFiles()
	f.put("f.yaml", []byte("# only a comment\n---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\nspec: {anything: goes}\n---\n\n---\n"))
	problems, ignored := f.problems()
	if len(problems) != 0 || len(ignored) != 1 || ignored[0].Line != 3 || ignored[0].Object != "apps/v1 Deployment" {
		t.Errorf("%v %v", problems, ignored)
	}
}

func TestLinesOfErrors(t *testing.T) {
	docs := decode("f.yaml", []byte("apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n---\n# comment\n\nkind: Pod\nmetadata:\n  name: [\n"))
	if len(docs) != 2 || docs[0].Line != 1 || docs[1].err == nil || docs[1].Line < 7 || docs[1].Line > 10 {
		t.Errorf("%+v", docs)
	}
}

func FuzzLoad(f *testing.F) {
	f.Add([]byte(nsShop+"\n---\n"+podDoc("p", "10.0.0.1", "")), []byte(nsPlain))
	f.Add([]byte(svcDoc("s", "10.0.0.1", "")), []byte("---\n---\n--- x\n{"))
	f.Add([]byte("apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: s, namespace: shop, labels: {kubernetes.io/service-name: s}}\naddressType: IPv4\nports: [{port: 80}]\nendpoints: [{addresses: [10.0.0.1]}]"), []byte(""))
	f.Add([]byte("apiVersion: v1\nkind: Node\nmetadata: {name: a}\nstatus: {addresses: [{type: InternalIP, address: 10.0.0.1}]}"), []byte("a: &a [*a]"))
	f.Fuzz(func(t *testing.T, first, second []byte) {
		w, files := NewWorld(Config{}), newFiles()
		s := &stepper{world: w}
		w.Update(files.put("f.yaml", first))
		s.step(t)
		w.Update(files.put("f.yaml", second))
		s.step(t)
		w.Update(files.put("g.yaml", first))
		s.step(t)
		w.Update(files.drop("f.yaml"))
		w.Update(files.drop("g.yaml"))
		s.step(t)
		if text(w) != "" || len(w.Problems()) != 0 {
			t.Errorf("left over: %s %v", text(w), w.Problems())
		}
		if len(w.claims.owner) != 0 || len(w.members) != 0 || len(w.index.podsOf) != 0 || len(w.index.slicesOf) != 0 {
			t.Error("left over in the indexes")
		}
	})
}
