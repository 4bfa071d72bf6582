{{/*
Triggers of a deployment of models as JSON: (list root component models). KEDA takes the largest answer.
streams / capacity leads: a model has a slot for each call, and refuses the one too many. Queue time and pending requests show
that calls have slots and the steps are too slow for them: of the engine, which batches by itself wherever it runs, and of Triton
in front of it, whose queue fills only when the engine's process does not take requests any more.
*/}}
{{- define "trunkline.modelTriggers" -}}
{{- $root := index . 0 -}}
{{- $s := $root.Values.scaling -}}
{{- $of := include "trunkline.metricsOf" $root -}}
{{- $triggers := list -}}
{{- range $name := index . 2 -}}
{{- $capacity := (get $root.Values.models $name).capacity -}}
{{- $labels := printf "%s,service=\"%s\"" $of $name -}}
{{- $query := printf "sum(sum by (pod) (trunkline_model_streams{%s}) unless on (pod) (trunkline_model_draining{%s} == 1)) or vector(0)" $labels $labels -}}
{{- $triggers = append $triggers (dict "name" (printf "%s-streams" $name) "query" $query "threshold" (mulf $capacity $s.targetLoad) "type" "AverageValue") -}}
{{- end -}}
{{- range $name := index . 2 -}}
{{- $labels := printf "%s,service=\"%s\"" $of $name -}}
{{- $queue := printf "sum(rate(trunkline_model_queue_seconds_sum{%s}[1m])) / sum(rate(trunkline_model_queue_seconds_count{%s}[1m]) > 0) or vector(0)" $labels $labels -}}
{{- $triggers = append $triggers (dict "name" (printf "%s-queue" $name) "query" $queue "threshold" (divf $s.targetQueueMilliseconds 1000) "type" "Value") -}}
{{- $pending := printf "sum(trunkline_model_pending_requests{%s}) or vector(0)" $labels -}}
{{- $triggers = append $triggers (dict "name" (printf "%s-pending" $name) "query" $pending "threshold" $s.targetPending "type" "AverageValue") -}}
{{- end -}}
{{- if ne $root.Values.topology "cpu" -}}
{{- $models := dict "tokenizer" "speech_tokenizer" "lm" "voice_lm" "decoder" "speech_decoder" -}}
{{- $names := list }}{{ range $name := index . 2 }}{{ $names = append $names (get $models $name) }}{{ end -}}
{{- $labels := printf "%s,model=~\"%s\"" $of (join "|" $names) -}}
{{- $queue := printf "max(sum by (model) (rate(nv_inference_queue_duration_us{%s}[1m])) / sum by (model) (rate(nv_inference_request_success{%s}[1m]) > 0)) or vector(0)" $labels $labels -}}
{{- $triggers = append $triggers (dict "name" "triton-queue" "query" $queue "threshold" (mul $s.targetQueueMilliseconds 1000) "type" "Value") -}}
{{- $pending := printf "sum(nv_inference_pending_request_count{%s}) or vector(0)" $labels -}}
{{- $triggers = append $triggers (dict "name" "triton-pending" "query" $pending "threshold" $s.targetPending "type" "AverageValue") -}}
{{- end -}}
{{- toJson $triggers -}}
{{- end -}}

{{/*
(list root component autoscaling scaleDown triggers)
A pod that goes drains for long, and its calls with it; so pods go one by one, and only when the load has been low for a while.
Kubernetes takes those first whose pod-deletion-cost is least: agents write their number of calls there.
*/}}
{{- define "trunkline.scaledObject" -}}
{{- $root := index . 0 -}}
{{- $component := index . 1 -}}
{{- $auto := index . 2 -}}
{{- $down := index . 3 -}}
{{- $s := $root.Values.scaling -}}
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata:
  name: {{ include "trunkline.fullname" $root }}-{{ $component }}
  labels: {{ include "trunkline.labels" (list $root $component) | nindent 4 }}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: {{ include "trunkline.fullname" $root }}-{{ $component }}}
  pollingInterval: {{ $s.pollingSeconds }}
  minReplicaCount: {{ $auto.minReplicas }}
  maxReplicaCount: {{ $auto.maxReplicas }}
  # Without an answer of Prometheus nothing is shrunk.
  fallback: {failureThreshold: 4, replicas: {{ $auto.minReplicas }}, behavior: currentReplicasIfHigher}
  advanced:
    horizontalPodAutoscalerConfig:
      behavior:
        scaleUp:
          stabilizationWindowSeconds: 0
          policies:
            - {type: Percent, value: 100, periodSeconds: 30}
            - {type: Pods, value: 2, periodSeconds: 30}
          selectPolicy: Max
        scaleDown:
          stabilizationWindowSeconds: {{ $down.stabilizationSeconds }}
          policies:
            - {type: Pods, value: {{ $down.pods }}, periodSeconds: {{ $down.periodSeconds }}}
  triggers:
{{- range index . 4 }}
    - type: prometheus
      name: {{ .name }}
      metricType: {{ .type }}
      metadata:
        serverAddress: {{ $s.prometheus | quote }}
        query: {{ .query | quote }}
        threshold: {{ .threshold | toString | quote }}
{{- with $s.authentication }}
      authenticationRef: {name: {{ . }}}
{{- end }}
{{- end }}
{{- end -}}
