{{/* Pods of a component as peers of a NetworkPolicy, or their nodes: (list root component hostNetwork). */}}
{{- define "trunkline.peers" -}}
{{- $root := index . 0 -}}
{{- if index . 2 }}
{{- range $root.Values.networkPolicy.nodes }}
- ipBlock: {cidr: {{ . | quote }}}
{{- end }}
{{- else }}
- podSelector:
    matchLabels: {{ include "trunkline.selector" (list $root (index . 1)) | nindent 6 }}
{{- end }}
{{- end -}}

{{/* (list root ports) */}}
{{- define "trunkline.metricsIngress" -}}
{{- $root := index . 0 -}}
{{- with $root.Values.networkPolicy.metricsFrom }}
{{- if $root.Values.telemetry.metrics }}
- ports:
{{- range index $ 1 }}
    - {port: {{ . }}}
{{- end }}
  from: {{ toYaml . | nindent 4 }}
{{- end }}
{{- end }}
{{- end -}}

{{/* What every process may reach: names, and the collector of traces. */}}
{{- define "trunkline.commonEgress" -}}
- ports: [{port: 53, protocol: UDP}, {port: 53}]
  to:
    - namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: {{ .Values.networkPolicy.dnsNamespace }}}}
{{- with .Values.telemetry.otlp.endpoint }}
- ports: [{port: {{ regexFind ":[0-9]+$" (urlParse .).host | trimPrefix ":" | default "4317" }}}]
{{- end }}
{{- end -}}
