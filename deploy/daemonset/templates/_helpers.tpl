{{/* Names are fixed: node programs, controller and command line tool find each other by them. */}}

{{- define "fairlead.selector" -}}
app.kubernetes.io/name: fairlead
app.kubernetes.io/component: {{ . }}
{{- end }}

{{/* fairlead.labels are those of every object: (list $ "node"). */}}
{{- define "fairlead.labels" -}}
{{- $ := index . 0 -}}
{{ include "fairlead.selector" (index . 1) }}
app.kubernetes.io/version: {{ $.Chart.AppVersion | trunc 63 | trimSuffix "-" | quote }}
app.kubernetes.io/managed-by: {{ $.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $.Chart.Name $.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* fairlead.image is the image of one program: (list $ "node"). */}}
{{- define "fairlead.image" -}}
{{- $ := index . 0 -}}
{{ printf "%s/%s:%s" $.Values.image.repository (index . 1) ($.Values.image.tag | default $.Chart.AppVersion) | quote }}
{{- end }}

{{- define "fairlead.pullSecrets" -}}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* fairlead.systemNamespaces never wait for us and are never enrolled: those of the values, and ours. */}}
{{- define "fairlead.systemNamespaces" -}}
{{ append .Values.systemNamespaces .Release.Namespace | uniq | join "," }}
{{- end }}

{{- define "fairlead.issuerSecret" -}}
{{ .Values.identity.issuer.existingSecret | default "fairlead-issuer" }}
{{- end }}

{{- define "fairlead.rootsConfigMap" -}}
{{ .Values.identity.existingRootsConfigMap | default "fairlead-roots" }}
{{- end }}

{{/*
fairlead.goMemLimit sets Go's soft limit of memory to nine tenths of the container's, when that is in Mi or Gi: the rest
is for what the kernel counts as ours beside the heap, above all socket buffers. Go finds a CPU limit by itself.
*/}}
{{- define "fairlead.goMemLimit" -}}
{{- $limit := toString (dig "limits" "memory" "" .) }}
{{- if regexMatch "^[1-9][0-9]*(Mi|Gi)$" $limit }}
{{- $mib := ternary (mul 1024 (trimSuffix "Gi" $limit | int)) (trimSuffix "Mi" $limit | int) (hasSuffix "Gi" $limit) }}
- name: GOMEMLIMIT
  value: {{ printf "%dMiB" (div (mul $mib 9) 10) }}
{{- else if $limit }}
- name: GOMEMLIMIT
  valueFrom:
    resourceFieldRef:
      resource: limits.memory
{{- end }}
{{- end }}

{{/* fairlead.unprivileged is the security context of every container but the keeper and its clean-up. */}}
{{- define "fairlead.unprivileged" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "fairlead.scrape" -}}
{{- $ := index . 0 -}}
{{- if $.Values.prometheus.scrapeAnnotations }}
prometheus.io/scrape: "true"
prometheus.io/port: {{ index . 1 | quote }}
prometheus.io/path: /metrics
{{- end }}
{{- end }}

{{/* fairlead.identity refuses what the schema cannot: values that are each right and do not go together. */}}
{{- define "fairlead.identity" -}}
{{- $i := .Values.identity }}
{{- if ne (empty $i.issuer.crt) (empty $i.issuer.key) }}
{{- fail "identity.issuer.crt and identity.issuer.key go together" }}
{{- end }}
{{- if and $i.issuer.crt $i.issuer.existingSecret }}
{{- fail "identity.issuer.existingSecret excludes identity.issuer.crt and identity.issuer.key" }}
{{- end }}
{{- if and $i.trustAnchors $i.existingRootsConfigMap }}
{{- fail "identity.existingRootsConfigMap excludes identity.trustAnchors" }}
{{- end }}
{{- if and (or $i.trustAnchors $i.existingRootsConfigMap) (not (or $i.issuer.crt $i.issuer.existingSecret)) }}
{{- fail "identity.trustAnchors and identity.existingRootsConfigMap need an issuer below those roots: identity.issuer.crt and .key, or identity.issuer.existingSecret" }}
{{- end }}
{{- end }}

{{/* fairlead.seconds is a duration as "1m30s" in whole seconds, rounded up. */}}
{{- define "fairlead.seconds" -}}
{{- $ms := 0 }}
{{- range $part := regexFindAll "[0-9]+(ms|s|m|h)" . -1 }}
{{- $n := regexFind "^[0-9]+" $part | int64 }}
{{- $unit := regexFind "[a-z]+$" $part }}
{{- $ms = add $ms (mul $n (get (dict "ms" 1 "s" 1000 "m" 60000 "h" 3600000) $unit)) }}
{{- end }}
{{- div (add $ms 999) 1000 }}
{{- end }}
