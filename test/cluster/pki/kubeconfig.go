package pki

import (
	"encoding/json"
	"fmt"
	"os"
)

// Kubeconfig returns what a client needs to be NAME towards the API server at a URL. It is JSON, which YAML is a superset of.
func (d Dir) Kubeconfig(authority, name, server string) ([]byte, error) {
	var pems [3][]byte
	for i, file := range []string{authority + ".crt", name + ".crt", name + ".key"} {
		b, err := os.ReadFile(d.path(file))
		if err != nil {
			return nil, fmt.Errorf("kubeconfig of %s: %w", name, err)
		}
		pems[i] = b
	}
	type object = map[string]any
	return json.MarshalIndent(object{
		"apiVersion": "v1", "kind": "Config", "current-context": "cluster",
		"clusters": []object{{"name": "cluster", "cluster": object{"server": server, "certificate-authority-data": pems[0]}}},
		"users":    []object{{"name": name, "user": object{"client-certificate-data": pems[1], "client-key-data": pems[2]}}},
		"contexts": []object{{"name": "cluster", "context": object{"cluster": "cluster", "user": name}}},
	}, "", "  ")
}
