package check

// Before are the checks of a cluster that is to have Fairlead.
func Before() []Group {
	return []Group{kubernetesGroup(), beforeGroup(), {clocksGroup().Name, clocksGroup().Checks[:2]}}
}

// Installed are the checks of an installation.
func Installed() []Group {
	return []Group{kubernetesGroup(), controllerGroup(), clocksGroup(), trustGroup(), nodesGroup(), routesGroup()}
}

// Mesh are those of an installation, and of the namespaces and pods that are to be in the mesh.
func Mesh() []Group { return append(Installed(), meshGroup()) }
