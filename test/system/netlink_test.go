package system

import (
	"errors"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// The only callers of netlink's dumps here: a dump that is interrupted by a change gives a part, or EINTR.

const maxIntr = 10

func dump[T any](list func() ([]T, error)) ([]T, error) {
	found, err := list()
	for try := 1; try < maxIntr && (errors.Is(err, unix.EINTR) || errors.Is(err, netlink.ErrDumpInterrupted)); try++ {
		found, err = list()
	}
	return found, err
}

func ruleList(family int) ([]netlink.Rule, error) {
	return dump(func() ([]netlink.Rule, error) { return netlink.RuleList(family) })
}

// routeList gives the routes of all tables.
func routeList(family int) ([]netlink.Route, error) {
	return dump(func() ([]netlink.Route, error) {
		return netlink.RouteListFiltered(family, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
	})
}
