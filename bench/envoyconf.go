package main

import (
	"encoding/json"
	"fmt"
)

// tree is a message of Envoy's configuration.
type tree = map[string]any

// items are several of them.
type items = []any

// plenty is for limits that are not to be met.
const plenty = 100000

// envoyConfig is Envoy's for one side, at its best here: HTTP/2 over TLS 1.3 between the two, and none of the fields, identifiers and logs
// that it adds if it is not told otherwise.
func envoyConfig(dir, name, b string) (string, error) {
	var listeners, clusters items
	for _, r := range routes {
		at, port := "127.0.0.1", envoyPorts.port(r.protocol)
		to, toPort, toH2 := b, port+secured, true
		if name == nameB {
			at, port = "0.0.0.0", port+secured
			to, toPort, toH2 = "127.0.0.1", r.origin, r.h2
		}
		chain := tree{"filters": items{envoyHTTP(r, name == nameB || r.h2)}}
		cluster := envoyCluster(r, to, toPort, toH2)
		if name == nameB {
			chain["transport_socket"] = envoyTLS("DownstreamTlsContext", tree{"require_client_certificate": true, "common_tls_context": envoyCommon(dir, name, tree{})})
		} else {
			who := tree{"match_typed_subject_alt_names": items{tree{"san_type": "DNS", "matcher": tree{"exact": nameB}}}}
			cluster["transport_socket"] = envoyTLS("UpstreamTlsContext", tree{"sni": nameB, "common_tls_context": envoyCommon(dir, name, who)})
		}
		listeners = append(listeners, tree{"name": r.name, "address": envoyAddress(at, port), "filter_chains": items{chain}})
		clusters = append(clusters, cluster)
	}
	text, err := json.MarshalIndent(tree{"static_resources": tree{"listeners": listeners, "clusters": clusters}}, "", " ")
	return string(text), err
}

// envoyHTTP is the filter that speaks HTTP to clients.
func envoyHTTP(r route, h2 bool) tree {
	codec := "HTTP1"
	if h2 {
		codec = "HTTP2"
	}
	router := tree{"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router", "suppress_envoy_headers": true}
	return tree{"name": "envoy.filters.network.http_connection_manager", "typed_config": tree{
		"@type":                  "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
		"stat_prefix":            r.name,
		"codec_type":             codec,
		"generate_request_id":    false,
		"http2_protocol_options": tree{"max_concurrent_streams": 1000},
		"http_filters":           items{tree{"name": "envoy.filters.http.router", "typed_config": router}},
		"route_config": tree{"virtual_hosts": items{tree{"name": "all", "domains": items{"*"},
			"routes": items{tree{"match": tree{"prefix": "/"}, "route": tree{"cluster": r.name, "timeout": "0s"}}}}}},
	}}
}

// envoyCluster is where requests go.
func envoyCluster(r route, addr string, port int, h2 bool) tree {
	speaks := "http_protocol_options"
	if h2 {
		speaks = "http2_protocol_options"
	}
	return tree{"name": r.name, "type": "STATIC", "connect_timeout": "5s",
		"circuit_breakers": tree{"thresholds": items{tree{"max_connections": plenty, "max_pending_requests": plenty, "max_requests": plenty}}},
		"load_assignment": tree{"cluster_name": r.name, "endpoints": items{tree{"lb_endpoints": items{
			tree{"endpoint": tree{"address": envoyAddress(addr, port)}}}}}},
		"typed_extension_protocol_options": tree{"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": tree{
			"@type":                "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
			"explicit_http_config": tree{speaks: tree{}}}}}
}

func envoyAddress(addr string, port int) tree {
	return tree{"socket_address": tree{"address": addr, "port_value": port}}
}

// envoyCommon is what both ends of TLS have; validation is what the other's certificate has to be, beside one of the CA's.
func envoyCommon(dir, name string, validation tree) tree {
	file := tree{"filename": pem(dir, name)}
	validation["trusted_ca"] = tree{"filename": ca(dir)}
	return tree{"alpn_protocols": items{"h2"}, "tls_params": tree{"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
		"tls_certificates": items{tree{"certificate_chain": file, "private_key": file}}, "validation_context": validation}
}

func envoyTLS(kind string, context tree) tree {
	context["@type"] = fmt.Sprintf("type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.%s", kind)
	return tree{"name": "envoy.transport_sockets.tls", "typed_config": context}
}
