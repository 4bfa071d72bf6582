{{- define "trunkline.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Labels that select: (list root component). */}}
{{- define "trunkline.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ $root.Chart.Name }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{- define "trunkline.labels" -}}
{{- $root := index . 0 -}}
{{ include "trunkline.selector" . }}
app.kubernetes.io/part-of: trunkline
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version }}
{{- end -}}

{{/* One of our own images: (list root image holds-weights). */}}
{{- define "trunkline.image" -}}
{{- $root := index . 0 -}}
{{- $image := index . 1 -}}
{{- $nano := and (index . 2) (eq $root.Values.weights.source "image") -}}
{{- with $root.Values.image.registry }}{{ trimSuffix "/" . }}/{{ end -}}
{{ $image.repository }}:{{ $image.tag | default $root.Values.image.tag | default (printf "%s%s" $root.Chart.AppVersion (ternary "-nano" "" $nano)) }}
{{- end -}}

{{/* The component whose pods serve a model: (list root model). */}}
{{- define "trunkline.host" -}}
{{- if eq (index . 0).Values.topology "shared" }}models{{ else }}{{ index . 1 }}{{ end -}}
{{- end -}}

{{- define "trunkline.grpcPort" -}}
{{- get (dict "agent" "50050" "tokenizer" "50051" "lm" "50052" "decoder" "50053") . -}}
{{- end -}}

{{/* Containers of one pod share their ports, so each has its own: (list root component). */}}
{{- define "trunkline.metricsPort" -}}
{{- $shared := dict "tokenizer" "9465" "lm" "9466" "decoder" "9467" -}}
{{- if eq (index . 0).Values.topology "shared" }}{{ get $shared (index . 1) | default "9464" }}{{ else }}9464{{ end -}}
{{- end -}}

{{- define "trunkline.metricsPortName" -}}
{{- $shared := dict "tokenizer" "metrics-tok" "lm" "metrics-lm" "decoder" "metrics-dec" -}}
{{- if eq (index . 0).Values.topology "shared" }}{{ get $shared (index . 1) | default "metrics" }}{{ else }}metrics{{ end -}}
{{- end -}}

{{- define "trunkline.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (printf "%s-agent" (include "trunkline.fullname" .)) -}}
{{- else -}}
{{- .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* Secret with a component's certificate. */}}
{{- define "trunkline.certificateSecret" -}}
{{- $root := index . 0 -}}
{{- $component := index . 1 -}}
{{- get $root.Values.grpc.mtls.secrets $component | default (printf "%s-%s-tls" (include "trunkline.fullname" $root) $component) -}}
{{- end -}}

{{/* Labels by which Prometheus knows this release: the namespace, and the job that the monitors set. */}}
{{- define "trunkline.metricsOf" -}}
namespace="{{ .Release.Namespace }}",job="{{ .Release.Name }}"
{{- end -}}
