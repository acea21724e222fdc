package crds

import (
	"fmt"
	"strings"
	"testing"
)

func TestTrafficPolicyIsTaken(t *testing.T) {
	c := load(t, "trafficpolicies")
	c.table(t, "TrafficPolicy", map[string]rule{
		"everything": {`
targetRefs: [{group: "", kind: Service, name: web}]
retries: {http: [5xx, gateway-error, 429], grpc: [UNAVAILABLE], connect: true, limit: 3, perTryTimeout: 500ms, backoff: 10ms, budget: {percent: 20, minPerSecond: 10}}
timeouts: {request: 5s, backendRequest: 1s, idle: 1m30s}
circuitBreaker: {consecutiveFailures: 7, successRate: {percent: 80, minRequests: 5, window: 10s}, probation: {min: 1s, max: 1m, jitterPercent: 50}, maxConnections: 100, maxPending: 10}
loadBalancing: {algorithm: ConsistentHash, hashOn: {type: Cookie, name: session}, slowStart: 30s, zonePreference: PreferSameZone}
rateLimit: {total: {requests: 100, interval: 1s, burst: 200}, perClient: {requests: 10}, overrides: [{identities: ["spiffe://cluster.local/ns/a/sa/b"], requests: 50}]}
faults: [{match: [{path: {type: Exact, value: /a}, headers: [{name: x, value: z}]}], percent: 10, delay: 1s, abort: {httpStatus: 503, grpcStatus: UNAVAILABLE}}]
protocol: HTTP2`, ""},
		"rule of a route":     {"targetRefs: [{kind: HTTPRoute, name: web, sectionName: admin}, {kind: GRPCRoute, name: web}, {group: gateway.networking.k8s.io, kind: HTTPRoute, name: web}]\ntimeouts: {request: 1s}", ""},
		"breaker as it is":    {traffic("circuitBreaker: {}"), ""},
		"retries as they are": {traffic("retries: {}"), ""},
		"none of a timeout":   {traffic("timeouts: {request: 0s, backendRequest: 1s}"), ""},
		"fraction":            {traffic("faults: [{fraction: {numerator: 1, denominator: 1000}, abort: {grpcStatus: INTERNAL}}]"), ""},
	})
}

func TestTrafficPolicyIsRefused(t *testing.T) {
	c := load(t, "trafficpolicies")
	long := strings.Repeat("a", 1025)
	c.table(t, "TrafficPolicy", map[string]rule{
		"no target":                 {"timeouts: {request: 1s}", "targetRefs: Required value"},
		"empty targets":             {"targetRefs: []\ntimeouts: {request: 1s}", "targetRefs in body should have at least 1 items"},
		"nothing said":              {"targetRefs: [{kind: Service, name: web}]", "the policy says nothing"},
		"kind of target":            {"targetRefs: [{kind: Gateway, name: web}]\ntimeouts: {request: 1s}", `supported values: "Service", "HTTPRoute", "GRPCRoute"`},
		"group of target":           {"targetRefs: [{group: apps, kind: Service, name: web}]\ntimeouts: {request: 1s}", "group does not go with kind"},
		"group of route":            {"targetRefs: [{group: \"\", kind: HTTPRoute, name: web}]\ntimeouts: {request: 1s}", "group does not go with kind"},
		"target twice":              {"targetRefs: [{kind: Service, name: web}, {kind: Service, name: web}]\ntimeouts: {request: 1s}", "a target is named twice"},
		"section of Service":        {"targetRefs: [{kind: Service, name: web, sectionName: http}]\ntimeouts: {request: 1s}", "a Service has none"},
		"namespace of target":       {"targetRefs: [{kind: Service, name: web, namespace: other}]\ntimeouts: {request: 1s}", "unknown field"},
		"protocol of route":         {"targetRefs: [{kind: HTTPRoute, name: web}]\nprotocol: TCP", "protocol can be told of a Service only"},
		"protocol":                  {traffic("protocol: http"), `supported values: "TCP", "HTTP1", "HTTP2"`},
		"status":                    {traffic("retries: {http: [200]}"), "a retried status is a number from 400 to 599"},
		"status class":              {traffic("retries: {http: [4xx]}"), "a retried status is a number from 400 to 599"},
		"status as text":            {traffic(`retries: {http: ["503"]}`), "a retried status is a number from 400 to 599"},
		"no statuses":               {traffic("retries: {http: []}"), "retries.http in body should have at least 1 items"},
		"grpc status":               {traffic("retries: {grpc: [unavailable]}"), `supported values: "CANCELLED"`},
		"grpc status OK":            {traffic("retries: {grpc: [OK]}"), `Unsupported value: "OK"`},
		"grpc status twice":         {traffic("retries: {grpc: [INTERNAL, INTERNAL]}"), "Duplicate value"},
		"retry of nothing":          {traffic("retries: {connect: false}"), "nothing is retried"},
		"no retry":                  {traffic("retries: {limit: 0}"), "retries.limit in body should be greater than or equal to 1"},
		"many retries":              {traffic("retries: {limit: 11}"), "should be less than or equal to 10"},
		"perTryTimeout of none":     {traffic("retries: {perTryTimeout: 0s}"), "perTryTimeout must be between 1ms and 1h"},
		"perTryTimeout too long":    {traffic("retries: {perTryTimeout: 2s}\ntimeouts: {request: 1s}"), "retries.perTryTimeout must not be longer than timeouts.request"},
		"backoff":                   {traffic("retries: {backoff: 2m}"), "backoff must be at most 1m"},
		"budget of nothing":         {traffic("retries: {budget: {percent: 0, minPerSecond: 0}}"), "a budget of nothing"},
		"budget of more than all":   {traffic("retries: {budget: {percent: 101}}"), "should be less than or equal to 100"},
		"no timeout":                {traffic("timeouts: {}"), "give request, backendRequest or idle"},
		"attempt longer":            {traffic("timeouts: {request: 1s, backendRequest: 2s}"), "backendRequest must not be longer than request"},
		"duration without unit":     {traffic(`timeouts: {request: "500"}`), "a duration is one to four numbers"},
		"duration with fraction":    {traffic("timeouts: {request: 1.5s}"), "a duration is one to four numbers"},
		"duration in microseconds":  {traffic("timeouts: {request: 10us}"), "a duration is one to four numbers"},
		"duration as number":        {traffic("timeouts: {request: 5}"), "must be of type string"},
		"failures":                  {traffic("circuitBreaker: {consecutiveFailures: -1}"), "should be greater than or equal to 0"},
		"success rate":              {traffic("circuitBreaker: {successRate: {percent: 101}}"), "should be less than or equal to 100"},
		"success rate of nothing":   {traffic("circuitBreaker: {successRate: {percent: 0}}"), "should be greater than or equal to 1"},
		"window":                    {traffic("circuitBreaker: {successRate: {window: 1h}}"), "window must be between 1s and 10m"},
		"probation":                 {traffic("circuitBreaker: {probation: {min: 2s, max: 1s}}"), "min must not be longer than max"},
		"probation beyond default":  {traffic("circuitBreaker: {probation: {min: 2m}}"), "min must not be longer than max"},
		"probation of nothing":      {traffic("circuitBreaker: {probation: {min: 0s}}"), "min must be between 10ms and 1h"},
		"jitter":                    {traffic("circuitBreaker: {probation: {jitterPercent: 101}}"), "should be less than or equal to 100"},
		"connections":               {traffic("circuitBreaker: {maxConnections: 0}"), "should be greater than or equal to 1"},
		"pending":                   {traffic("circuitBreaker: {maxPending: 0}"), "should be greater than or equal to 1"},
		"algorithm":                 {traffic("loadBalancing: {algorithm: Random}"), `supported values: "PeakEWMA"`},
		"hash of nothing":           {traffic("loadBalancing: {algorithm: ConsistentHash}"), "hashOn and algorithm ConsistentHash go together"},
		"hash without algorithm":    {traffic("loadBalancing: {hashOn: {type: Source}}"), "hashOn and algorithm ConsistentHash go together"},
		"hash of another algorithm": {traffic("loadBalancing: {algorithm: RoundRobin, hashOn: {type: Source}}"), "hashOn and algorithm ConsistentHash go together"},
		"header without name":       {traffic("loadBalancing: {algorithm: ConsistentHash, hashOn: {type: Header}}"), "type Header and Cookie need a name"},
		"source with name":          {traffic("loadBalancing: {algorithm: ConsistentHash, hashOn: {type: Source, name: x}}"), "type Source has none"},
		"empty balancing":           {traffic("loadBalancing: {}"), "give algorithm, slowStart or zonePreference"},
		"slow start":                {traffic("loadBalancing: {slowStart: 2h}"), "slowStart must be at most 1h"},
		"zone":                      {traffic("loadBalancing: {zonePreference: Always}"), `supported values: "PreferSameZone", "None"`},
		"empty limit":               {traffic("rateLimit: {}"), "give total, perClient or overrides"},
		"rate of nothing":           {traffic("rateLimit: {total: {requests: 0}}"), "should be greater than or equal to 1"},
		"rate without requests":     {traffic("rateLimit: {total: {interval: 1s}}"), "rateLimit.total.requests: Required value"},
		"interval":                  {traffic("rateLimit: {total: {requests: 1, interval: 10ms}}"), "interval must be between 1s and 1h"},
		"identity":                  {traffic("rateLimit: {overrides: [{identities: [a], requests: 1}]}"), "an identity is a SPIFFE ID"},
		"identities by beginning":   {traffic("rateLimit: {overrides: [{identities: ['spiffe://a/*'], requests: 1}]}"), "an identity is a SPIFFE ID"},
		"fault of nothing":          {traffic("faults: [{percent: 1}]"), "a fault needs delay or abort"},
		"fault without share":       {traffic("faults: [{delay: 1s}]"), "give percent or fraction"},
		"fault with two shares":     {traffic("faults: [{delay: 1s, percent: 1, fraction: {numerator: 1}}]"), "give percent or fraction"},
		"fault beyond all":          {traffic("faults: [{delay: 1s, percent: 101}]"), "should be less than or equal to 100"},
		"fraction beyond all":       {traffic("faults: [{delay: 1s, fraction: {numerator: 2, denominator: 1}}]"), "numerator must be less than or equal to denominator"},
		"delay":                     {traffic("faults: [{percent: 1, delay: 1h}]"), "delay must be between 1ms and 10m"},
		"empty abort":               {traffic("faults: [{percent: 1, abort: {}}]"), "give httpStatus or grpcStatus"},
		"abort with 100":            {traffic("faults: [{percent: 1, abort: {httpStatus: 100}}]"), "should be greater than or equal to 200"},
		"path of a fault":           {traffic("faults: [{percent: 1, delay: 1s, match: [{path: {value: a}}]}]"), "value must be an absolute path"},
		"long path":                 {traffic(fmt.Sprintf("faults: [{percent: 1, delay: 1s, match: [{path: {value: /%s}}]}]", long)), "Too long: may not be more than 1024"},
		"regular expression":        {traffic("faults: [{percent: 1, delay: 1s, match: [{headers: [{type: RegularExpression, name: a, value: '('}]}]}]"), "must be one (RE2)"},
		"unknown part":              {traffic("retry: {limit: 1}\ntimeouts: {request: 1s}"), "unknown field"},
	})
}
