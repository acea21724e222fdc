package compile

import (
	"fmt"
	"net/netip"
)

// claims are who owns what only one can own: addresses, node ports, UIDs.
type claims struct {
	owner map[any]Key
	of    map[Key][]any
}

type nodePort uint16
type podUID string

func newClaims() claims { return claims{owner: map[any]Key{}, of: map[Key][]any{}} }

// taken returns an error if somebody else owns the thing.
func (c *claims) taken(k Key, thing any) error {
	if other, ok := c.owner[thing]; ok && other != k {
		return fmt.Errorf("%s belongs to %s already", thingName(thing), other)
	}
	return nil
}

// set makes the things the owner's, and what it had beside them nobody's. All must be free or its own.
func (c *claims) set(k Key, things []any) {
	for _, t := range c.of[k] {
		delete(c.owner, t)
	}
	delete(c.of, k)
	for _, t := range things {
		c.owner[t] = k
	}
	if len(things) > 0 {
		c.of[k] = things
	}
}

func thingName(t any) string {
	switch t := t.(type) {
	case netip.Addr:
		return "address " + t.String()
	case nodePort:
		return fmt.Sprintf("node port %d", uint16(t))
	case podUID:
		return "uid " + string(t)
	}
	return fmt.Sprint(t)
}
