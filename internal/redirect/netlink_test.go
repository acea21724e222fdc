package redirect

import "github.com/vishvananda/netlink"

// The only callers of netlink's dumps in tests, as netlink.go is in the product.

func ruleList(family int) (rules []netlink.Rule, err error) {
	err = retryIntr(func() (e error) {
		rules, e = netlink.RuleList(family)
		return e
	})
	return rules, err
}

func routeList(family, table int) (routes []netlink.Route, err error) {
	err = retryIntr(func() (e error) {
		routes, e = netlink.RouteListFiltered(family, &netlink.Route{Table: table}, netlink.RT_FILTER_TABLE)
		return e
	})
	return routes, err
}

func addrList6(l netlink.Link) (addrs []netlink.Addr, err error) {
	err = retryIntr(func() (e error) {
		addrs, e = netlink.AddrList(l, netlink.FAMILY_V6)
		return e
	})
	return addrs, err
}
