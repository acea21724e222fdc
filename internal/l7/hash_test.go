package l7

import (
	"fmt"
	"net"
	"testing"

	"fairlead.io/fairlead/internal/l7/balance"
	"fairlead.io/fairlead/internal/l7/exchange"
	"fairlead.io/fairlead/internal/mesh"
)

func TestConsistentHash(t *testing.T) {
	for _, on := range []mesh.HashSource{mesh.HashHeader, mesh.HashCookie} {
		t.Run(fmt.Sprint(on), func(t *testing.T) {
			how := &mesh.Balance{Algorithm: mesh.ConsistentHash, HashOn: on, HashName: "user"}
			w := newWorld(t)
			r := newRouted(t, false, mesh.HTTP1, &mesh.PortRoutes{Port: 80, Policy: &mesh.Traffic{Balance: how}}, nil,
				map[string]net.Listener{"svc": w.httpApp(saying("a")), "b": w.httpApp(saying("b"))})
			r.dst.Cluster.SetPolicy(balance.Policy{Balance: how})
			var both []balance.Endpoint
			for _, c := range r.clusters {
				both = append(both, *c.Endpoints()[0])
			}
			r.dst.Cluster.Set(both)
			c, seen := r.client(false), map[string]int{}
			for user := range 20 {
				for again := range 3 {
					req := request1(t, "GET", "/", nil)
					req.Header.Set("User", fmt.Sprint(user))
					req.Header.Set("Cookie", fmt.Sprintf("x=1; user=%d", user))
					app := r.send(c, req).body[:1]
					seen[app]++
					if key := fmt.Sprint(user, app); again > 0 && seen[key] != again {
						t.Fatalf("user %d has gone to another endpoint", user)
					} else {
						seen[key]++
					}
				}
			}
			if seen["a"] == 0 || seen["b"] == 0 {
				t.Errorf("all users went to one endpoint: %v", seen)
			}
		})
	}
}

func TestCookie(t *testing.T) {
	fields := []exchange.Field{{Name: "Cookie", Value: "a=1; b=2;c"}, {Name: "cookie", Value: "d=x=y"}}
	for name, want := range map[string]string{"a": "1", "b": "2", "d": "x=y", "c": "", "A": ""} {
		if got, ok := cookie(fields, name); got != want || ok != (want != "") {
			t.Errorf("%s: %q, %v", name, got, ok)
		}
	}
}
