{{/* Containers of the model services and of Triton. */}}

{{/* What the engine of a model is told, in whichever process it runs: (list root model device). */}}
{{- define "trunkline.engineEnv" -}}
{{- $root := index . 0 -}}
{{- $name := index . 1 -}}
{{- $model := get $root.Values.models $name -}}
{{- $prefix := printf "TRUNKLINE_%s" (upper $name) -}}
- {name: {{ $prefix }}_WEIGHTS, value: {{ include "trunkline.weightsRoot" $root }}/{{ $model.directory }}}
- {name: {{ $prefix }}_DEVICE, value: {{ $model.device | default (index . 2) | quote }}}
- {name: {{ $prefix }}_CAPACITY, value: {{ $model.capacity | quote }}}
{{- range $key, $value := $model.settings }}
- {name: {{ $prefix }}_{{ $key }}, value: {{ $value | quote }}}
{{- end }}
{{- end -}}

{{/* A model service: (list root model). */}}
{{- define "trunkline.modelContainer" -}}
{{- $root := index . 0 -}}
{{- $name := index . 1 -}}
{{- $v := $root.Values -}}
{{- $model := get $v.models $name -}}
{{- $prefix := printf "TRUNKLINE_%s" (upper $name) -}}
{{- $port := include "trunkline.grpcPort" $name -}}
{{- $local := eq $v.topology "cpu" -}}
- name: {{ $name }}
  image: {{ include "trunkline.image" (list $root $model.image $local) }}
  imagePullPolicy: {{ $v.image.pullPolicy }}
  env:
    - {name: {{ $prefix }}_LISTEN, value: "0.0.0.0:{{ $port }}"}
    - {name: {{ $prefix }}_DRAIN_SECONDS, value: {{ $v.models.drainSeconds | quote }}}
{{- if $local }}
    {{- include "trunkline.engineEnv" (list $root $name "cpu") | nindent 4 }}
{{- else }}
    - {name: {{ $prefix }}_BACKEND, value: triton}
    - {name: {{ $prefix }}_TRITON_URL, value: "127.0.0.1:8001"}
    - {name: {{ $prefix }}_WAIT_FOR_TRITON, value: {{ $v.models.startSeconds | quote }}}
    - {name: {{ $prefix }}_CAPACITY, value: {{ $model.capacity | quote }}}
{{- end }}
    {{- include "trunkline.env" (list $root $name) | nindent 4 }}
  ports:
    - {name: {{ $name }}, containerPort: {{ $port }}}
{{- if $v.telemetry.metrics }}
    - {name: {{ include "trunkline.metricsPortName" . }}, containerPort: {{ include "trunkline.metricsPort" . }}}
{{- end }}
  {{- include "trunkline.grpcProbes" (list $root $name $v.models.startSeconds) | nindent 2 }}
  resources: {{ toYaml (ternary $model.resources $v.models.gateway.resources $local) | nindent 4 }}
  securityContext: {{ include "trunkline.containerSecurity" $root | nindent 4 }}
  volumeMounts:
    - {name: tmp, mountPath: /tmp}
    {{- include "trunkline.grpcMount" . | nindent 4 }}
{{- if $local }}
    {{- include "trunkline.weightsMount" $root | nindent 4 }}
{{- end }}
{{- end -}}

{{/*
Triton, beside the services in front of it: (list root models gpus resources). A sidecar (an init container that is
restarted) is up before the services start, and ends after they have: sessions that drain still have their engine.
Its gRPC port is open to this pod alone, because it asks for no token. The port of its metrics opens when all models are loaded.
*/}}
{{- define "trunkline.tritonSidecar" -}}
{{- $root := index . 0 -}}
{{- $v := $root.Values -}}
{{- $models := dict "tokenizer" "speech_tokenizer" "lm" "voice_lm" "decoder" "speech_decoder" -}}
- name: triton
  image: {{ include "trunkline.image" (list $root $v.triton.image true) }}
  imagePullPolicy: {{ $v.image.pullPolicy }}
  restartPolicy: Always
  args:
    - --grpc-address=127.0.0.1
    - --grpc-port=8001
    - --allow-http=false
    - --metrics-address=0.0.0.0
    - --metrics-port=8002
    - --exit-timeout-secs=10
{{- if lt (len (index . 1)) 3 }}
    - --model-control-mode=explicit
{{- range index . 1 }}
    - --load-model={{ get $models . }}
{{- end }}
{{- end }}
{{- range $v.triton.args }}
    - {{ . | quote }}
{{- end }}
  env:
{{- range index . 1 }}
    {{- include "trunkline.engineEnv" (list $root . "cuda") | nindent 4 }}
    - {name: TRUNKLINE_{{ upper . }}_LEASE_S, value: {{ $v.triton.leaseSeconds | quote }}}
    - {name: TRUNKLINE_{{ upper . }}_LOG_LEVEL, value: {{ $v.log.level | quote }}}
{{- end }}
    - {name: TRUNKLINE_LOG_FORMAT, value: {{ $v.log.format | quote }}}
{{- with $v.telemetry.otlp.endpoint }}
    - {name: OTEL_EXPORTER_OTLP_ENDPOINT, value: {{ . | quote }}}
{{- end }}
  ports:
    - {name: triton, containerPort: 8002}
  startupProbe:
    httpGet: {path: /metrics, port: triton}
    periodSeconds: 5
    timeoutSeconds: 3
    failureThreshold: {{ div (add $v.models.startSeconds 4) 5 }}
  livenessProbe:
    httpGet: {path: /metrics, port: triton}
    periodSeconds: 10
    timeoutSeconds: 5
    failureThreshold: 6
  resources:
    requests: {{ toYaml (index . 3).requests | nindent 6 }}
    limits:
      {{- toYaml (index . 3).limits | nindent 6 }}
      {{ $v.triton.gpuResource }}: {{ index . 2 }}
  securityContext: {{ include "trunkline.containerSecurity" $root | nindent 4 }}
  volumeMounts:
    - {name: tmp, mountPath: /tmp}
    - {name: shm, mountPath: /dev/shm}
    {{- include "trunkline.weightsMount" $root | nindent 4 }}
{{- end -}}

{{/* A deployment of model services: (list root component models replicas autoscaled values gpus resources). */}}
{{- define "trunkline.modelDeployment" -}}
{{- $root := index . 0 -}}
{{- $component := index . 1 -}}
{{- $models := index . 2 -}}
{{- $values := index . 5 -}}
{{- $v := $root.Values -}}
{{- $gpu := ne $v.topology "cpu" -}}
{{- if $gpu -}}
{{- $selector := merge (dict) $values.nodeSelector $v.triton.nodeSelector -}}
{{- $values = dict "nodeSelector" $selector "tolerations" (concat $v.triton.tolerations $values.tolerations) "affinity" $values.affinity -}}
{{- end -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ include "trunkline.fullname" $root }}-{{ $component }}
  labels: {{ include "trunkline.labels" (list $root $component) | nindent 4 }}
spec:
{{- if not (index . 4) }}
  replicas: {{ index . 3 }}
{{- end }}
  revisionHistoryLimit: 3
  # One at a time: the calls of a replica that goes have places at the others then. A second pod for the time of an upgrade
  # would want a GPU more.
  strategy:
    type: RollingUpdate
    rollingUpdate: {maxSurge: {{ ternary 0 1 $gpu }}, maxUnavailable: {{ ternary 1 0 $gpu }}}
  selector:
    matchLabels: {{ include "trunkline.selector" (list $root $component) | nindent 6 }}
  template:
    metadata:
      labels: {{ include "trunkline.labels" (list $root $component) | nindent 8 }}
    spec:
      automountServiceAccountToken: false
      enableServiceLinks: false
      terminationGracePeriodSeconds: {{ $v.models.terminationGracePeriodSeconds }}
      {{- include "trunkline.pullSecrets" $root | nindent 6 }}
{{- if and $gpu $v.triton.runtimeClassName }}
      runtimeClassName: {{ $v.triton.runtimeClassName }}
{{- end }}
      securityContext: {{ include "trunkline.podSecurity" $root | nindent 8 }}
      {{- include "trunkline.placement" (list $root $component $values) | nindent 6 }}
{{- $prepare := include "trunkline.weightsInit" $root }}
{{- if or $gpu $prepare }}
      initContainers:
        {{- $prepare | nindent 8 }}
{{- if $gpu }}
        {{- include "trunkline.tritonSidecar" (list $root $models (index . 6) (index . 7)) | nindent 8 }}
{{- end }}
{{- end }}
      containers:
{{- range $models }}
        {{- include "trunkline.modelContainer" (list $root .) | nindent 8 }}
{{- end }}
      volumes:
        - name: tmp
          emptyDir: {}
{{- if $gpu }}
        - name: shm
          emptyDir: {medium: Memory, sizeLimit: {{ $v.triton.sharedMemory }}}
{{- end }}
        {{- include "trunkline.weightsVolume" $root | nindent 8 }}
{{- range $models }}
        {{- include "trunkline.grpcVolume" (list $root .) | nindent 8 }}
{{- end }}
{{- end -}}
