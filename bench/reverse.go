package main

import (
	"fmt"

	"fairlead.io/fairlead/internal/testnet"
)

// reversePeer is cmd/reverse.
var reversePeer = peer{name: "reverse-proxy", ports: reversePorts, side: (*stage).reverseSide}

func (s *stage) reverseSide(name, b string) (testnet.Command, error) {
	args := []string{"--certificate=" + pem(s.dir, name), "--ca=" + ca(s.dir)}
	if name == nameA {
		args = append(args, "--server-name="+nameB)
	}
	for _, r := range routes {
		port, plain := reversePorts.port(r.protocol), "h1"
		if r.h2 {
			plain = "h2"
		}
		if name == nameA {
			args = append(args, fmt.Sprintf("--way=127.0.0.1:%d,%s,%s:%d", port, plain, b, port+secured))
		} else {
			args = append(args, fmt.Sprintf("--way=:%d,%s,127.0.0.1:%d", port+secured, plain, r.origin))
		}
	}
	return testnet.Command{Path: s.o.own("reverse"), Args: args}, nil
}
