package crds

import "testing"

func TestAuthorizationPolicyIsTaken(t *testing.T) {
	c := load(t, "authorizationpolicies")
	everybody := "rules: [{from: [{authentication: Authenticated}, {authentication: Unauthenticated}]}]"
	c.table(t, "AuthorizationPolicy", map[string]rule{
		"everything": {`
target: {kind: Pods, selector: {matchLabels: {app: web}, matchExpressions: [{key: tier, operator: In, values: [a, b]}, {key: x, operator: Exists}]}, ports: [80, 8080]}
action: DENY
rules:
- from:
  - {identities: ["spiffe://cluster.local/ns/a/sa/b", "spiffe://cluster.local/ns/a/*", "spiffe://cluster.local/*", "spiffe://cluster.local/ns/a/sa/pre*"], authentication: Authenticated}
  - {serviceAccounts: [{name: web}, {name: web, namespace: shop}], namespaces: [a, b]}
  - {ipBlocks: [{cidr: 10.0.0.0/8, except: [10.1.0.0/16]}, {cidr: "fd00::/8"}], authentication: Unauthenticated}
  to:
  - {methods: [GET, POST], paths: [{type: Exact, value: /a}, {value: /b}, {type: RegularExpression, value: "/c/[0-9]+"}], headers: [{name: x, value: z}]}
  - {grpc: [{service: a.B, method: C}, {service: a.D}], headers: [{name: x, type: RegularExpression, value: "z.*"}]}`, ""},
		"mesh":              {"target: {kind: Mesh}\naction: ALLOW\n" + everybody, ""},
		"namespace":         {"target: {kind: Namespace, ports: [80]}\naction: AUDIT\n" + everybody, ""},
		"Service":           {"target: {kind: Service, name: web, ports: [80]}\naction: ALLOW\n" + everybody, ""},
		"rule of a route":   {"target: {kind: HTTPRoute, name: web, sectionName: admin}\naction: ALLOW\n" + everybody, ""},
		"nobody is allowed": {"target: {kind: Namespace}\naction: ALLOW", ""},
	})
}

func TestAuthorizationPolicyIsRefused(t *testing.T) {
	c := load(t, "authorizationpolicies")
	from := func(s string) string { return "target: {kind: Namespace}\naction: ALLOW\nrules: [{from: [" + s + "]}]" }
	to := func(s string) string { return "target: {kind: Namespace}\naction: ALLOW\nrules: [{to: [" + s + "]}]" }
	target := func(s string) string {
		return "target: {" + s + "}\naction: ALLOW\nrules: [{from: [{authentication: Authenticated}]}]"
	}
	c.table(t, "AuthorizationPolicy", map[string]rule{
		"no target":                {"action: ALLOW", "target: Required value"},
		"no action":                {"target: {kind: Namespace}", "action: Required value"},
		"action":                   {"target: {kind: Namespace}\naction: Allow", `supported values: "ALLOW", "DENY", "AUDIT"`},
		"DENY of nothing":          {"target: {kind: Namespace}\naction: DENY", "DENY and AUDIT without rules match nothing"},
		"no rules":                 {"target: {kind: Namespace}\naction: ALLOW\nrules: []", "spec.rules in body should have at least 1 items"},
		"empty rule":               {"target: {kind: Namespace}\naction: DENY\nrules: [{}]", "a rule that says nothing would match everything"},
		"no clients":               {"target: {kind: Namespace}\naction: DENY\nrules: [{from: []}]", "from in body should have at least 1 items"},
		"kind of target":           {target("kind: Pod"), `supported values: "Mesh", "Namespace", "Pods"`},
		"pods without selector":    {target("kind: Pods"), "selector belongs to kind Pods"},
		"empty selector":           {target("kind: Pods, selector: {}"), "write kind Namespace for that"},
		"empty labels":             {target("kind: Pods, selector: {matchLabels: {}}"), "write kind Namespace for that"},
		"operator":                 {target("kind: Pods, selector: {matchExpressions: [{key: a, operator: Is}]}"), "operator In and NotIn need values"},
		"operator without values":  {target("kind: Pods, selector: {matchExpressions: [{key: a, operator: In}]}"), "operator In and NotIn need values"},
		"selector of a namespace":  {target("kind: Namespace, selector: {matchLabels: {a: b}}"), "selector belongs to kind Pods"},
		"Service without name":     {target("kind: Service"), "name belongs to kind Service"},
		"name of a namespace":      {target("kind: Namespace, name: other"), "name belongs to kind Service"},
		"section of Service":       {target("kind: Service, name: web, sectionName: a"), "only kind HTTPRoute and GRPCRoute have one"},
		"ports of a route":         {target("kind: HTTPRoute, name: web, ports: [80]"), "leave ports out"},
		"port":                     {target("kind: Namespace, ports: [65536]"), "should be less than or equal to 65535"},
		"port twice":               {target("kind: Namespace, ports: [80, 80]"), "Duplicate value"},
		"namespace of a target":    {target("kind: Service, name: web, namespace: other"), "unknown field"},
		"empty client":             {from("{}"), "give identities, serviceAccounts"},
		"identity":                 {from(`{identities: ["web"]}`), "an identity is a SPIFFE ID"},
		"any identity":             {from(`{identities: ["*"]}`), "an identity is a SPIFFE ID"},
		"star within":              {from(`{identities: ["spiffe://a/*/sa/b"]}`), "an identity is a SPIFFE ID"},
		"trust domain alone":       {from(`{identities: ["spiffe://a"]}`), "an identity is a SPIFFE ID"},
		"star in the trust domain": {from(`{identities: ["spiffe://a*"]}`), "an identity is a SPIFFE ID"},
		"namespace":                {from("{namespaces: [A]}"), "should match"},
		"address":                  {from("{ipBlocks: [{cidr: 10.0.0.1}]}"), "cidr must be a range of addresses"},
		"exception":                {from("{ipBlocks: [{cidr: 10.0.0.0/8, except: [11.0.0.0/16]}]}"), "except must be ranges of addresses within cidr"},
		"exception of no range":    {from("{ipBlocks: [{cidr: 10.0.0.0/8, except: [a]}]}"), "except must be ranges of addresses within cidr"},
		"authentication":           {from("{authentication: None}"), `supported values: "Authenticated", "Unauthenticated"`},
		"nobody's identity":        {from("{authentication: Unauthenticated, namespaces: [a]}"), "an unauthenticated client has no identity"},
		"empty operation":          {to("{}"), "give methods, paths, headers or grpc"},
		"method":                   {to("{methods: [get]}"), `supported values: "GET"`},
		"path":                     {to("{paths: [{value: a}]}"), "value must be an absolute path"},
		"regular expression":       {to("{paths: [{type: RegularExpression, value: '/('}]}"), "must be one (RE2)"},
		"expression of a header":   {to("{headers: [{type: RegularExpression, name: a, value: '('}]}"), "must be one (RE2)"},
		"header twice":             {to("{headers: [{name: a, value: b}, {name: a, value: c}]}"), "Duplicate value"},
		"grpc and path":            {to("{grpc: [{service: a}], paths: [{value: /}]}"), "grpc goes with headers only"},
		"empty call":               {to("{grpc: [{}]}"), "One or both of 'service' or 'method' must be specified"},
	})
}
