{{/*
fairlead.cleanup is the DaemonSet that takes everything of ours off a node, whatever became of the keeper. It is ready when
nothing is left. It has the keeper's mounts, but neither token nor roots: it speaks to nobody. Nor has it the keeper's own
directories, because what is mounted cannot be removed: it finds them by the root of the node's first process.
*/}}
{{- define "fairlead.cleanup" -}}
apiVersion: apps/v1
kind: DaemonSet
metadata:
  name: fairlead-cleanup
  namespace: {{ .Release.Namespace }}
  labels:
    {{- include "fairlead.labels" (list . "cleanup") | nindent 4 }}
    fairlead.io/generated: "true"
spec:
  selector:
    matchLabels:
      {{- include "fairlead.selector" "cleanup" | nindent 6 }}
  # Every node at once.
  updateStrategy:
    type: OnDelete
  template:
    metadata:
      labels:
        {{- include "fairlead.selector" "cleanup" | nindent 8 }}
    spec:
      serviceAccountName: fairlead-node
      automountServiceAccountToken: false
      enableServiceLinks: false
      {{- include "fairlead.pullSecrets" . | nindent 6 }}
      {{- include "fairlead.node.placement" . | nindent 6 }}
      terminationGracePeriodSeconds: 5
      containers:
        - name: cleanup
          image: {{ include "fairlead.image" (list . "node") }}
          imagePullPolicy: {{ .Values.image.pullPolicy }}
          command: [/nodeproxy, cleanup]
          args:
            {{- include "fairlead.node.paths" . | nindent 12 }}
            {{- if not .Values.cni.install }}
            - --cni-bin-dir={{ .Values.cni.binDir }}
            - --cni-conf-dir={{ .Values.cni.confDir }}
            {{- end }}
            - --state=/host/proc/1/root/var/lib/fairlead
            - --run=/host/proc/1/root/run/fairlead
            - --keys=/host/proc/1/root/run/fairlead/keys
            - --remove-state
            - --wait
            - --ready-socket=/run/fairlead-cleanup/ready.sock
            - --log-level={{ .Values.logLevel | upper }}
          {{- with .Values.node.keeper.resources }}
          resources:
            {{- toYaml . | nindent 12 }}
          {{- end }}
          securityContext:
            {{- include "fairlead.node.privileged" . | nindent 12 }}
          readinessProbe:
            exec:
              command: [/nodeproxy, cleanup-ready, --ready-socket=/run/fairlead-cleanup/ready.sock]
            periodSeconds: 1
            timeoutSeconds: 5
          terminationMessagePolicy: FallbackToLogsOnError
          volumeMounts:
            {{- include "fairlead.node.mounts" . | nindent 12 }}
            {{- if not .Values.cni.install }}
            # An entry of a time when it was installed must not stay: without the rest it would keep every pod from starting.
            - name: cni-bin
              mountPath: {{ .Values.cni.binDir }}
            - name: cni-conf
              mountPath: {{ .Values.cni.confDir }}
            {{- end }}
            # Where the readiness probe asks.
            - name: ready
              mountPath: /run/fairlead-cleanup
      volumes:
        {{- include "fairlead.node.volumes" . | nindent 8 }}
        {{- if not .Values.cni.install }}
        - name: cni-bin
          hostPath:
            path: {{ .Values.cni.binDir }}
            type: DirectoryOrCreate
        - name: cni-conf
          hostPath:
            path: {{ .Values.cni.confDir }}
            type: DirectoryOrCreate
        {{- end }}
        - name: ready
          emptyDir: {}
{{- end }}
