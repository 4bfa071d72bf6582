{{/* Parts of pods that several components have. */}}

{{- define "trunkline.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "trunkline.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{- define "trunkline.pullSecrets" -}}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
{{- range . }}
  - name: {{ . }}
{{- end }}
{{- end }}
{{- end -}}

{{/* Where pods go: (list root component values). Replicas are spread over nodes and zones. */}}
{{- define "trunkline.placement" -}}
{{- $root := index . 0 -}}
{{- $values := index . 2 -}}
{{- with $values.nodeSelector }}
nodeSelector: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with $values.tolerations }}
tolerations: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with $values.affinity }}
affinity: {{ toYaml . | nindent 2 }}
{{- end }}
topologySpreadConstraints:
{{- range $key := list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
  - maxSkew: 1
    topologyKey: {{ $key }}
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels: {{ include "trunkline.selector" (list $root (index $ 1)) | nindent 8 }}
{{- end }}
{{- end -}}

{{/* The environment that every process has: (list root component). */}}
{{- define "trunkline.env" -}}
{{- $root := index . 0 -}}
{{- $component := index . 1 -}}
{{- $v := $root.Values -}}
- {name: TRUNKLINE_{{ upper $component }}_LOG_LEVEL, value: {{ $v.log.level | quote }}}
- {name: TRUNKLINE_LOG_FORMAT, value: {{ $v.log.format | quote }}}
- {name: TRUNKLINE_METRICS_LISTEN, value: "{{ if $v.telemetry.metrics }}0.0.0.0:{{ include "trunkline.metricsPort" . }}{{ end }}"}
{{- with $v.telemetry.otlp }}
{{- if .endpoint }}
- {name: OTEL_EXPORTER_OTLP_ENDPOINT, value: {{ .endpoint | quote }}}
- {name: OTEL_SERVICE_NAME, value: trunkline-{{ $component }}}
- name: POD_UID
  valueFrom: {fieldRef: {fieldPath: metadata.uid}}
- {name: OTEL_RESOURCE_ATTRIBUTES, value: "service.namespace={{ $root.Release.Namespace }},service.instance.id=$(POD_UID),k8s.pod.uid=$(POD_UID)"}
{{- with .sampler }}
- {name: OTEL_TRACES_SAMPLER, value: {{ . | quote }}}
{{- end }}
{{- with .samplerArg }}
- {name: OTEL_TRACES_SAMPLER_ARG, value: {{ . | quote }}}
{{- end }}
{{- end }}
{{- end }}
{{- if eq $v.grpc.security "network" }}
- {name: TRUNKLINE_GRPC_TRUST_NETWORK, value: "true"}
{{- else if eq $v.grpc.security "token" }}
- {name: TRUNKLINE_GRPC_TOKEN_FILE, value: /run/secrets/grpc/{{ $v.grpc.token.key }}}
{{- else }}
- {name: TRUNKLINE_GRPC_CERTIFICATE, value: /run/secrets/grpc/tls.crt}
- {name: TRUNKLINE_GRPC_KEY, value: /run/secrets/grpc/tls.key}
- {name: TRUNKLINE_GRPC_CLIENT_CA, value: /run/secrets/grpc/ca.crt}
- {name: TRUNKLINE_GRPC_CA, value: /run/secrets/grpc/ca.crt}
{{- end }}
{{- end -}}

{{/* Secrets are mounted whole, not by subPath: a changed secret reaches a running pod then. */}}
{{- define "trunkline.grpcVolume" -}}
{{- $root := index . 0 -}}
{{- $v := $root.Values -}}
{{- if eq $v.grpc.security "token" }}
- name: grpc-{{ index . 1 }}
  secret: {secretName: {{ $v.grpc.token.secret }}, defaultMode: 0440}
{{- else if eq $v.grpc.security "mtls" }}
- name: grpc-{{ index . 1 }}
  secret: {secretName: {{ include "trunkline.certificateSecret" . }}, defaultMode: 0440}
{{- end }}
{{- end -}}

{{- define "trunkline.grpcMount" -}}
{{- if ne (index . 0).Values.grpc.security "network" }}
- {name: grpc-{{ index . 1 }}, mountPath: /run/secrets/grpc, readOnly: true}
{{- end }}
{{- end -}}

{{/* Where a container with an engine finds the weights. */}}
{{- define "trunkline.weightsRoot" -}}
{{- if eq .Values.weights.source "image" }}/opt/trunkline/weights/nano{{ else }}/weights{{ end -}}
{{- end -}}

{{- define "trunkline.weightsVolume" -}}
{{- $w := .Values.weights -}}
{{- if eq $w.source "claim" }}
- name: weights
  persistentVolumeClaim: {claimName: {{ $w.claim }}, readOnly: true}
{{- else if eq $w.source "init" }}
- name: weights
  emptyDir: {sizeLimit: {{ $w.init.sizeLimit }}}
{{- else if eq $w.source "oci" }}
- name: weights
  image: {reference: {{ $w.oci.reference }}, pullPolicy: {{ $w.oci.pullPolicy }}}
{{- end }}
{{- end -}}

{{- define "trunkline.weightsMount" -}}
{{- $w := .Values.weights -}}
{{- if ne $w.source "image" }}
- name: weights
  mountPath: /weights
  readOnly: true
{{- if and (eq $w.source "claim") $w.subPath }}
  subPath: {{ $w.subPath }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "trunkline.weightsInit" -}}
{{- $w := .Values.weights -}}
{{- if eq $w.source "init" }}
- name: weights
  image: {{ $w.init.image }}
  imagePullPolicy: {{ .Values.image.pullPolicy }}
{{- with $w.init.command }}
  command: {{ toYaml . | nindent 4 }}
{{- end }}
{{- with $w.init.args }}
  args: {{ toYaml . | nindent 4 }}
{{- end }}
{{- with $w.init.envFromSecret }}
  envFrom:
    - secretRef: {name: {{ . }}}
{{- end }}
  resources:
    requests: {cpu: 100m, memory: 128Mi}
    limits: {memory: 1Gi}
  securityContext: {{ include "trunkline.containerSecurity" . | nindent 4 }}
  volumeMounts:
    - {name: weights, mountPath: /weights}
    - {name: tmp, mountPath: /tmp}
{{- end }}
{{- end -}}

{{/*
Probes of a gRPC service: (list root component seconds-to-start).
Kubernetes' own speak no TLS; with mTLS a command asks instead. Liveness asks only whether the process listens: health says
NOT_SERVING while a replica drains or its Triton is away, and neither gets better by killing it.
*/}}
{{- define "trunkline.grpcProbes" -}}
{{- $root := index . 0 -}}
{{- $component := index . 1 -}}
{{- $port := include "trunkline.grpcPort" $component | int -}}
{{- $mtls := eq $root.Values.grpc.security "mtls" -}}
{{- $name := printf "%s-%s" (include "trunkline.fullname" $root) $component -}}
{{- $command := list "python" "-m" "services.common.probe" "--address" (printf "127.0.0.1:%d" $port) "--server-name" $name -}}
startupProbe:
{{- if $mtls }}
  exec: {command: {{ toJson $command }}}
  timeoutSeconds: 10
{{- else }}
  grpc: {port: {{ $port }}}
  timeoutSeconds: 3
{{- end }}
  periodSeconds: 5
  failureThreshold: {{ div (add (index . 2) 4) 5 }}
readinessProbe:
{{- if $mtls }}
  exec: {command: {{ toJson $command }}}
  timeoutSeconds: 10
  periodSeconds: 15
{{- else }}
  grpc: {port: {{ $port }}}
  timeoutSeconds: 3
  periodSeconds: 5
{{- end }}
  failureThreshold: 2
livenessProbe:
  tcpSocket: {port: {{ $port }}}
  timeoutSeconds: 5
  periodSeconds: 10
  failureThreshold: 6
{{- end -}}
