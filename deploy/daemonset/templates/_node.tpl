{{/*
What the keeper and the clean-up have in common: who may run on a node, with which privileges and mounts. The clean-up's
DaemonSet is made by the pre-delete Job, from a ConfigMap; it takes away what the keeper has made, so it must see the same.
*/}}

{{- define "fairlead.node.placement" -}}
priorityClassName: {{ .Values.node.priorityClassName }}
{{- with .Values.node.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.node.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.node.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/*
Privileged, because each of these needs it:
  - BPF programs at the root of cgroup2, at pods' namespaces and devices, and their maps (CAP_BPF, CAP_NET_ADMIN, CAP_SYS_ADMIN)
  - sockets, rules, routes and sysctls inside pods' network namespaces (setns: CAP_SYS_ADMIN)
  - mounting a procfs whose sysctls can be written, within its own mount namespace
  - mounts that propagate from here to the node (Bidirectional), which Kubernetes allows to privileged containers alone
AppArmor's and seccomp's default profiles refuse mount, bpf and setns; SELinux' spc_t may do what root on the node may.
No hostPID: the processes of the node are read from the node's own procfs, which is mounted below, and none is signalled.
No hostNetwork: the node's network namespace is entered where it is needed, by /host/proc/1/ns/net; the pod's own address
keeps the proxy's port off the node's addresses.
*/}}
{{- define "fairlead.node.privileged" -}}
privileged: true
runAsUser: 0
runAsGroup: 0
readOnlyRootFilesystem: true
appArmorProfile:
  type: Unconfined
seccompProfile:
  type: Unconfined
seLinuxOptions:
  type: spc_t
{{- end }}

{{/* The flags that say where things are on the node: keeper and clean-up have the same. */}}
{{- define "fairlead.node.paths" -}}
- --proc=/host/proc
- --cgroup=/host/sys/fs/cgroup
- --bpffs=/sys/fs/bpf
- --netns-dir=/run/netns
{{- if .Values.cni.install }}
- --cni-bin-dir={{ .Values.cni.binDir }}
- --cni-conf-dir={{ .Values.cni.confDir }}
{{- end }}
{{- end }}

{{- define "fairlead.node.mounts" -}}
# The node's processes, to find the namespaces of running pods, and the node's own network namespace. Not at /proc:
# there the container has its own, of its own PID namespace.
- name: proc
  mountPath: /host/proc
# The BPF file system, where links and maps are pinned, so that pods stay in the mesh while no keeper runs. Bidirectional:
# if it is not mounted on the node yet, the keeper mounts it, and the next keeper has to find it there.
- name: bpffs
  mountPath: /sys/fs/bpf
  mountPropagation: Bidirectional
# The root of cgroup2, to which the connect programs are attached, and the kubelet's cgroup, by which probes are told
# from other traffic. Not at /sys/fs/cgroup: there the container has its own part of it.
- name: cgroup
  mountPath: /host/sys/fs/cgroup
# Network namespaces as the runtime binds them. HostToContainer: those of pods that start later appear here too. The same path as
# on the node, because the runtime names a namespace by its path.
- name: netns
  mountPath: /run/netns
  mountPropagation: HostToContainer
{{- if .Values.cni.install }}
# The runtime's CNI plugins and configurations: our plugin is copied into the one and chained in the other.
- name: cni-bin
  mountPath: {{ .Values.cni.binDir }}
- name: cni-conf
  mountPath: {{ .Values.cni.confDir }}
{{- end }}
{{- end }}

{{- define "fairlead.node.volumes" -}}
- name: proc
  hostPath:
    path: /proc
    type: Directory
- name: bpffs
  hostPath:
    path: /sys/fs/bpf
    type: Directory
- name: cgroup
  hostPath:
    path: /sys/fs/cgroup
    type: Directory
- name: netns
  hostPath:
    path: /run/netns
    type: DirectoryOrCreate
{{- if .Values.cni.install }}
- name: cni-bin
  hostPath:
    path: {{ .Values.cni.binDir }}
    type: DirectoryOrCreate
- name: cni-conf
  hostPath:
    path: {{ .Values.cni.confDir }}
    type: DirectoryOrCreate
{{- end }}
{{- end }}
