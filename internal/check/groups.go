package check

// Groups are the checks of an installation, and with it those of the mesh's namespaces if they are wanted.
func Groups(mesh bool) []Group {
	groups := []Group{kubernetesGroup(), controllerGroup(), nodesGroup()}
	return groups
}
