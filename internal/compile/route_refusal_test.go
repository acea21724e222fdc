package compile

import (
	"fmt"
	"strings"
	"testing"
)

// refusals are specs of a route of shop that are not accepted, with the reason and what the message says.
var refusals = []struct{ kind, rules, reason, message string }{
	{"HTTPRoute", "[{matches: [{path: {type: Glob, value: /a}}]}]", "UnsupportedValue", `rules[0].matches[0].path: type "Glob" is not supported`},
	{"HTTPRoute", "[{}, {matches: [{}, {path: {value: a}}]}]", "UnsupportedValue", `rules[1].matches[1].path: path "a" does not begin with /`},
	{"HTTPRoute", "[{matches: [{path: {value: /a//b}}]}]", "UnsupportedValue", `has "//"`},
	{"HTTPRoute", "[{matches: [{path: {value: /a/./b}}]}]", "UnsupportedValue", `has "/./"`},
	{"HTTPRoute", "[{matches: [{path: {value: /a/../b}}]}]", "UnsupportedValue", `has "/../"`},
	{"HTTPRoute", "[{matches: [{path: {value: /a%2fb}}]}]", "UnsupportedValue", `has "%2f"`},
	{"HTTPRoute", "[{matches: [{path: {value: /a%2Fb}}]}]", "UnsupportedValue", `has "%2F"`},
	{"HTTPRoute", "[{matches: [{path: {value: /a/..}}]}]", "UnsupportedValue", "ends in a dot element"},
	{"HTTPRoute", "[{matches: [{path: {value: /a/.}}]}]", "UnsupportedValue", "ends in a dot element"},
	{"HTTPRoute", "[{matches: [{path: {value: '/a#b'}}]}]", "UnsupportedValue", "characters that no path has"},
	{"HTTPRoute", "[{matches: [{path: {type: Exact, value: ''}}]}]", "UnsupportedValue", "does not begin with /"},
	{"HTTPRoute", "[{matches: [{path: {value: /" + strings.Repeat("a", 1024) + "}}]}]", "UnsupportedValue", "path of 1025 bytes, at most 1024"},
	{"HTTPRoute", "[{matches: [{path: {type: RegularExpression, value: '/(a'}}]}]", "UnsupportedValue", "matches[0].path: regular expression (RE2): error parsing regexp: missing closing )"},
	{"HTTPRoute", "[{matches: [{path: {type: RegularExpression, value: '(?=a)'}}]}]", "UnsupportedValue", "RE2"},
	{"HTTPRoute", "[{matches: [{path: {type: RegularExpression, value: " + strings.Repeat("a", 1025) + "}}]}]", "UnsupportedValue", "of 1025 bytes, at most 1024"},
	{"HTTPRoute", "[{matches: [{headers: [{name: a, type: RegularExpression, value: '(abcdefghijkl){1000}'}]}]}]", "UnsupportedValue", "matches[0].headers[0]: regular expression: it repeats too much"},
	{"HTTPRoute", "[{matches: [{headers: [{name: ':path', value: b}]}]}]", "UnsupportedValue", `headers[0]: name ":path" is not that of a header field`},
	{"HTTPRoute", "[{matches: [{headers: [{name: a, value: ''}]}]}]", "UnsupportedValue", "headers[0]: no value"},
	{"HTTPRoute", "[{matches: [{headers: [{name: a, value: b, type: Prefix}]}]}]", "UnsupportedValue", `headers[0]: type "Prefix" is not supported`},
	{"HTTPRoute", "[{matches: [{queryParams: [{name: a, value: b}, {name: b, value: b, type: Some}]}]}]", "UnsupportedValue", `matches[0].queryParams[1]: type "Some" is not supported`},
	{"HTTPRoute", "[{matches: [{queryParams: [{name: a, value: " + strings.Repeat("b", 1025) + "}]}]}]", "UnsupportedValue", "value of 1025 bytes"},
	{"HTTPRoute", "[{matches: [{method: get}]}]", "UnsupportedValue", `matches[0].method: "get" is not supported`},
	{"HTTPRoute", "[{matches: [" + strings.Repeat("{}, ", 65) + "]}]", "UnsupportedValue", "rules[0].matches: 65, at most 64"},
	{"HTTPRoute", "[" + strings.Repeat("{matches: ["+strings.Repeat("{}, ", 43)+"]}, ", 3) + "]", "UnsupportedValue", "matches of all rules: 129, at most 128"},
	{"HTTPRoute", "[" + strings.Repeat("{}, ", 17) + "]", "UnsupportedValue", "rules: 17, at most 16"},
	{"HTTPRoute", "[{name: a}, {name: b}, {name: a}]", "UnsupportedValue", `rules[2].name: rules[0] is named "a" already`},
	{"HTTPRoute", "[{name: A}]", "UnsupportedValue", `rules[0].name "A" is not a DNS name`},
	{"HTTPRoute", "[{retry: {attempts: 3}}]", "UnsupportedValue", "rules[0].retry: not supported; a TrafficPolicy"},
	{"HTTPRoute", "[{sessionPersistence: {}}]", "UnsupportedValue", "rules[0].sessionPersistence: not supported; a TrafficPolicy"},
	{"HTTPRoute", "[{timeouts: {request: 1.5s}}]", "UnsupportedValue", `rules[0].timeouts.request: "1.5s" is not a duration`},
	{"HTTPRoute", "[{timeouts: {backendRequest: 100000s}}]", "UnsupportedValue", "backendRequest: \"100000s\" is not a duration"},
	{"HTTPRoute", "[{timeouts: {request: 1s, backendRequest: 2s}}]", "UnsupportedValue", "timeouts.backendRequest: 2s is longer than request, 1s"},
	{"HTTPRoute", "[{backendRefs: [{name: v1}]}]", "UnsupportedValue", "rules[0].backendRefs[0].port: a Service needs one"},
	{"HTTPRoute", "[{backendRefs: [{name: v1, port: 70000}]}]", "UnsupportedValue", "backendRefs[0].port: 70000 is not a port"},
	{"HTTPRoute", "[{backendRefs: [{name: v1, port: 80, weight: -1}]}]", "UnsupportedValue", "backendRefs[0].weight: -1, from 0 to 1000000"},
	{"HTTPRoute", "[{backendRefs: [{name: v1, port: 80, weight: 1000001}]}]", "UnsupportedValue", "weight: 1000001"},
	{"HTTPRoute", "[{backendRefs: [" + strings.Repeat("{name: v1, port: 80}, ", 17) + "]}]", "UnsupportedValue", "backendRefs: 17, at most 16"},
	{"HTTPRoute", "[{filters: [{type: ExtensionRef, extensionRef: {group: g, kind: k, name: n}}]}]", "UnsupportedValue", `rules[0].filters[0]: filter of type "ExtensionRef" is not supported`},
	{"HTTPRoute", "[{filters: [{type: ExternalAuth}]}]", "UnsupportedValue", `filter of type "ExternalAuth" is not supported`},
	{"HTTPRoute", "[{filters: [{type: CORS}]}]", "UnsupportedValue", "CORS: what it is to do is missing"},
	{"HTTPRoute", "[{filters: [{type: RequestMirror}]}]", "UnsupportedValue", "RequestMirror: what it is to do is missing"},
	{"HTTPRoute", "[{filters: [" + strings.Repeat("{type: RequestMirror, requestMirror: {backendRef: {name: v1, port: 80}}}, ", 17) + "]}]", "UnsupportedValue", "filters: 17, at most 16"},
	{"HTTPRoute", "[{filters: [{type: RequestMirror, requestMirror: {backendRef: {name: v1}}}]}]", "UnsupportedValue", "rules[0].filters[0]: RequestMirror: backendRef.port: a Service needs one"},
	{"HTTPRoute", "[{filters: [{type: RequestMirror, requestMirror: {backendRef: {name: v1, port: 80}, percent: 101}}]}]", "UnsupportedValue", "percent: 101"},
	{"HTTPRoute", "[{filters: [{type: RequestMirror, requestMirror: {backendRef: {name: v1, port: 80}, percent: 1, fraction: {numerator: 1}}}]}]", "UnsupportedValue", "percent and fraction exclude each other"},
	{"HTTPRoute", "[{filters: [{type: RequestMirror, requestMirror: {backendRef: {name: v1, port: 80}, fraction: {numerator: 2, denominator: 1}}}]}]", "UnsupportedValue", "fraction: 2 of 1"},
	{"HTTPRoute", "[{filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: a, value: b}], remove: [A]}}]}]", "UnsupportedValue", "RequestHeaderModifier: remove: A is in set already"},
	{"HTTPRoute", "[{filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: Host, value: b}]}}]}]", "UnsupportedValue", "set: Host frames the message, and is not changed; URLRewrite changes the host name"},
	{"HTTPRoute", "[{filters: [{type: ResponseHeaderModifier, responseHeaderModifier: {remove: [Content-Length]}}]}]", "UnsupportedValue", "remove: Content-Length frames the message"},
	{"HTTPRoute", "[{filters: [{type: RequestHeaderModifier, requestHeaderModifier: {remove: [Fairlead-X]}}]}]", "UnsupportedValue", "Fairlead-X is between proxies of the mesh"},
	{"HTTPRoute", "[{matches: [{path: {type: RegularExpression, value: '/a)|(b'}}]}]", "UnsupportedValue", "unexpected )"},
	{"HTTPRoute", "[{matches: [{headers: [{name: a, type: RegularExpression, value: '" + strings.Repeat("(", 999) + strings.Repeat(")", 999) + "'}]}]}]", "UnsupportedValue", "RE2"},
	{"HTTPRoute", `[{filters: [{type: RequestHeaderModifier, requestHeaderModifier: {add: [{name: a, value: "b\r\nc: d"}]}}]}]`, "UnsupportedValue", "not printable ASCII"},
	{"HTTPRoute", "[{filters: [{type: RequestHeaderModifier, requestHeaderModifier: {add: [{name: 'a b', value: c}]}}]}]", "UnsupportedValue", "is not that of a header field"},
	{"HTTPRoute", "[{filters: [{type: RequestHeaderModifier, requestHeaderModifier: {}}, {type: RequestHeaderModifier, requestHeaderModifier: {}}]}]", "IncompatibleFilters", "filters[1]: RequestHeaderModifier is there already"},
	{"HTTPRoute", "[{filters: [{type: URLRewrite, urlRewrite: {}}, {type: RequestRedirect, requestRedirect: {}}]}]", "IncompatibleFilters", "rules[0].filters: RequestRedirect and URLRewrite exclude each other"},
	{"HTTPRoute", "[{filters: [{type: RequestRedirect, requestRedirect: {}}], backendRefs: [{name: v1, port: 80}]}]", "IncompatibleFilters", "a rule with it has no backendRefs"},
	{"HTTPRoute", "[{backendRefs: [{name: v1, port: 80, filters: [{type: URLRewrite, urlRewrite: {}}, {type: URLRewrite, urlRewrite: {}}]}]}]", "IncompatibleFilters", "rules[0].backendRefs[0].filters[1]: URLRewrite is there already"},
	{"HTTPRoute", "[{filters: [{type: RequestRedirect, requestRedirect: {statusCode: 304}}]}]", "UnsupportedValue", "statusCode: 304 is not supported"},
	{"HTTPRoute", "[{filters: [{type: RequestRedirect, requestRedirect: {scheme: ftp}}]}]", "UnsupportedValue", `scheme: "ftp" is not supported`},
	{"HTTPRoute", "[{filters: [{type: RequestRedirect, requestRedirect: {port: 0}}]}]", "UnsupportedValue", "port: 0 is not a port"},
	{"HTTPRoute", "[{filters: [{type: RequestRedirect, requestRedirect: {hostname: 'a b'}}]}]", "UnsupportedValue", "is not a host name"},
	{"HTTPRoute", "[{filters: [{type: URLRewrite, urlRewrite: {hostname: '*.a'}}]}]", "UnsupportedValue", "is not a host name"},
	{"HTTPRoute", "[{filters: [{type: URLRewrite, urlRewrite: {path: {type: Some}}}]}]", "UnsupportedValue", `path: type "Some" is not supported`},
	{"HTTPRoute", "[{filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplaceFullPath}}}]}]", "UnsupportedValue", "do not go together"},
	{"HTTPRoute", "[{filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplaceFullPath, replacePrefixMatch: /a}}}]}]", "UnsupportedValue", "do not go together"},
	{"HTTPRoute", "[{filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplaceFullPath, replaceFullPath: '/a?b'}}}]}]", "UnsupportedValue", "is not a path"},
	{"HTTPRoute", "[{matches: [{path: {type: Exact, value: /a}}], filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /a}}}]}]", "UnsupportedValue", "exactly one match, of type PathPrefix"},
	{"HTTPRoute", "[{matches: [{}, {}], filters: [{type: RequestRedirect, requestRedirect: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /a}}}]}]", "UnsupportedValue", "exactly one match, of type PathPrefix"},
	{"HTTPRoute", "[{filters: [{type: CORS, cors: {allowOrigins: [a.b]}}]}]", "UnsupportedValue", `allowOrigins: "a.b" is not an origin`},
	{"HTTPRoute", "[{filters: [{type: CORS, cors: {allowOrigins: ['http://a:99999']}}]}]", "UnsupportedValue", "99999 is not a port"},
	{"HTTPRoute", "[{filters: [{type: CORS, cors: {allowOrigins: ['*', 'http://a']}}]}]", "UnsupportedValue", "allowOrigins: * stands alone"},
	{"HTTPRoute", "[{filters: [{type: CORS, cors: {allowMethods: [FETCH]}}]}]", "UnsupportedValue", `allowMethods: "FETCH" is not supported`},
	{"HTTPRoute", "[{filters: [{type: CORS, cors: {allowHeaders: ['*', a]}}]}]", "UnsupportedValue", "allowHeaders: * stands alone"},
	{"HTTPRoute", "[{filters: [{type: CORS, cors: {exposeHeaders: ['a b']}}]}]", "UnsupportedValue", "exposeHeaders: name"},
	{"HTTPRoute", "[{filters: [{type: CORS, cors: {maxAge: -1}}]}]", "UnsupportedValue", "maxAge: -1"},
	{"GRPCRoute", "[{matches: [{method: {}}]}]", "UnsupportedValue", "rules[0].matches[0].method: neither service nor method"},
	{"GRPCRoute", "[{matches: [{method: {service: 'a/b'}}]}]", "UnsupportedValue", `service "a/b" is not a name of one`},
	{"GRPCRoute", "[{matches: [{method: {method: a.b}}]}]", "UnsupportedValue", `method "a.b" is not a name of one`},
	{"GRPCRoute", "[{matches: [{method: {type: Some, method: a}}]}]", "UnsupportedValue", `type "Some" is not supported`},
	{"GRPCRoute", "[{matches: [{method: {type: RegularExpression, method: '('}}]}]", "UnsupportedValue", "RE2"},
	{"GRPCRoute", "[{matches: [{headers: [{name: a, value: b, type: X}]}]}]", "UnsupportedValue", `matches[0].headers[0]: type "X"`},
	{"GRPCRoute", "[{filters: [{type: URLRewrite}]}]", "UnsupportedValue", `filter of type "URLRewrite" is not supported`},
	{"GRPCRoute", "[{filters: [{type: ExtensionRef, extensionRef: {group: g, kind: k, name: n}}]}]", "UnsupportedValue", `filter of type "ExtensionRef"`},
	{"GRPCRoute", "[{sessionPersistence: {}}]", "UnsupportedValue", "sessionPersistence: not supported"},
	{"GRPCRoute", "[{backendRefs: [{name: v1}]}]", "UnsupportedValue", "a Service needs one"},
	{"TCPRoute", "[]", "UnsupportedValue", "rules: 0, a TCPRoute has one"},
	{"TCPRoute", "[{backendRefs: [{name: v1, port: 80}]}, {backendRefs: [{name: v1, port: 80}]}]", "UnsupportedValue", "rules: 2, a TCPRoute has one"},
	{"TCPRoute", "[{}]", "UnsupportedValue", "rules[0].backendRefs: none, a TCPRoute needs one"},
	{"TLSRoute", "[{backendRefs: [{name: v1, port: 80}]}]", "UnsupportedValue", "hostnames: none"},
	{"TLSRoute", "[{backendRefs: [{name: v1, port: 80}]}]\n  hostnames: [a.b, 'a.*']", "UnsupportedValue", `hostnames[1]: "a.*" is not a host name`},
	{"TLSRoute", "[{}]\n  hostnames: [a.b]", "UnsupportedValue", "rules[0].backendRefs: none, a TLSRoute needs one"},
}

func TestWhatIsInvalidIsNotAcceptedAndTheLastValidStays(t *testing.T) {
	good := map[string]string{
		"HTTPRoute": "[{" + toV2 + "}]", "GRPCRoute": "[{" + toV2 + "}]", "TCPRoute": "[{" + toV2 + "}]", "TLSRoute": "[{" + toV2 + "}]\n  hostnames: [a.b]",
	}
	for i, c := range refusals {
		t.Run(fmt.Sprint(i, " ", c.message), func(t *testing.T) {
			w, f := NewWorld(Config{}), newFiles()
			apply(t, w, f, "s.yaml", services...)
			route := func(generation int, rules string) string {
				return routeOf(Kind(c.kind), "shop/r", fmt.Sprintf(", generation: %d", generation), toWeb, "rules: "+rules)
			}
			apply(t, w, f, "r.yaml", route(1, c.rules))
			k := Key{Kind(c.kind), "shop", "r"}
			check := func(generation int64, end string) {
				t.Helper()
				s, _ := w.RouteStatus(k)
				if len(s.Parents) != 1 || len(s.Parents[0].Conditions) != 1 {
					t.Fatalf("%+v, problems %v", s, w.Problems())
				}
				got := s.Parents[0].Conditions[0]
				if got.Type != "Accepted" || got.Status != "False" || got.Reason != c.reason || got.ObservedGeneration != generation || s.Generation != generation {
					t.Errorf("%+v", got)
				}
				if !strings.Contains(got.Message, c.message) || !strings.HasSuffix(got.Message, end) {
					t.Error(got.Message)
				}
				if p := w.Problems(); len(p) != 1 || !strings.Contains(p[0].Err.Error(), c.message) {
					t.Errorf("problems %v", p)
				}
			}
			check(1, ". Nothing of this route is in force.")
			if w.Routes(web) != nil {
				t.Error("it has rules")
			}
			apply(t, w, f, "r.yaml", route(2, good[c.kind]))
			before, version := w.Routes(web), w.Version()
			if before == nil || !strings.HasPrefix(conditions(w, k.Kind, "shop/r"), "Accepted=True") || len(w.Problems()) != 0 {
				t.Fatalf("not mended: %v", w.Problems())
			}
			apply(t, w, f, "r.yaml", route(3, c.rules))
			check(3, ". Generation 2, the last valid one, stays in force.")
			if w.Routes(web) != before || w.Version() != version {
				t.Error("the last valid version does not stay")
			}
			w.Update(f.drop("r.yaml"))
			if _, there := w.RouteStatus(k); there || w.Routes(web) != nil || len(w.Problems()) != 0 {
				t.Error("something stays of a route that is gone")
			}
		})
	}
}

func TestParentsOfOtherControllersMakeNoSenseHere(t *testing.T) {
	rules := "rules: [{filters: [{type: ExtensionRef, extensionRef: {group: g, kind: k, name: n}}]}]"
	w := with(t, routeOf(HTTPRoute, "shop/r", "", "{name: gateway}", rules))
	if s, there := w.RouteStatus(Key{HTTPRoute, "shop", "r"}); !there || len(s.Parents) != 0 || len(w.Problems()) != 0 {
		t.Errorf("%+v %v", s, w.Problems())
	}
	w = with(t, routeOf(HTTPRoute, "shop/r", "", "{name: gateway}, "+toWeb, rules))
	if s, _ := w.RouteStatus(Key{HTTPRoute, "shop", "r"}); len(s.Parents) != 1 || s.Parents[0].Ref.Name != "web" {
		t.Errorf("%+v", s)
	}
	w = with(t, routeOf(HTTPRoute, "shop/r", "", "{kind: Service, name: web}", "rules: []"))
	if p := w.Problems(); len(p) != 1 || !strings.Contains(p[0].Err.Error(), `parentRefs[0]: for a Service the group is ""`) {
		t.Errorf("%v", p)
	}
}
