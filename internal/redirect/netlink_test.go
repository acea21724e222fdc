package redirect

import "github.com/vishvananda/netlink"

// The only callers of netlink's dumps in tests, as netlink.go is in the product.

func addrList6(l netlink.Link) (addrs []netlink.Addr, err error) {
	err = retryIntr(func() (e error) {
		addrs, e = netlink.AddrList(l, netlink.FAMILY_V6)
		return e
	})
	return addrs, err
}
