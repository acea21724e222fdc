package compile

import (
	"fmt"
	"testing"
)

// TestTheCostOfARouteIsThatOfTheChange: with fifty times the Services and routes, a change allocates about the same.
func TestTheCostOfARouteIsThatOfTheChange(t *testing.T) {
	cost := func(n int) float64 {
		w := NewWorld(Config{})
		var set []Object
		read := func(doc string) Object { return decode("f", []byte(doc))[0].Object }
		route := func(weight int) Object {
			return read(routeOf(HTTPRoute, "shop/r7", "", `{group: "", kind: Service, name: s7}`, fmt.Sprintf("rules: [{backendRefs: [{name: s8, port: 80, weight: %d}]}]", weight)))
		}
		for i := range n {
			set = append(set, read(svc("shop", fmt.Sprintf("s%d", i), fmt.Sprintf("10.9.%d.%d", i/200, 1+i%200), "{port: 80}")))
			set = append(set, read(routeOf(HTTPRoute, fmt.Sprintf("shop/r%d", i), "", fmt.Sprintf(`{group: "", kind: Service, name: s%d}`, i), "rules: [{"+toV1+"}]")))
			set = append(set, read(routeOf(GRPCRoute, fmt.Sprintf("shop/bad%d", i), "", fmt.Sprintf(`{group: "", kind: Service, name: s%d}`, i), "rules: [{filters: [{type: ExtensionRef}]}]")))
		}
		w.Update(set, nil)
		changes := []Object{route(1), route(2)}
		i := 0
		return testing.AllocsPerRun(50, func() {
			since := w.Version()
			w.Update(changes[i%2:i%2+1], nil)
			if d := w.Delta(since, all); len(d.Routes) != 1 {
				t.Fatalf("%d rows", len(d.Routes))
			}
			i++
		})
	}
	if few, many := cost(20), cost(1000); many > 1.5*few {
		t.Errorf("a change allocates %.0f times among 20 routes, %.0f among 1000", few, many)
	}
}
