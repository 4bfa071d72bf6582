{{/* Alerts: (list labels thresholds drain-seconds edge triton). Each description names what to do. */}}
{{- define "trunkline.rules" -}}
{{- $of := index . 0 -}}
{{- $t := index . 1 -}}
- alert: TrunklineNoAgent
  expr: absent(trunkline_calls_capacity{ {{- $of -}} })
  for: 2m
  severity: critical
  summary: No agent is seen
  description: >-
    Prometheus sees no agent, so nobody is answered, or nothing is scraped. Look at the pods (kubectl get pods -l
    app.kubernetes.io/component=agent): one that does not start says why in its last line of log. If they run, look at the
    monitor and at networkPolicy.metricsFrom.
- alert: TrunklineNoReplica
  expr: min by (service) (trunkline_replicas_ready{ {{- $of -}} }) == 0
  for: 1m
  severity: critical
  summary: An agent reaches no replica of {{ `{{ $labels.service }}` }}
  description: >-
    Calls are refused. Look at the pods of this model service: still loading (models.startSeconds), out of memory, no GPU free,
    or gRPC settings that differ (grpc.security). With Triton, the log of the container triton says which model failed.
- alert: TrunklineReplicaFailures
  expr: sum by (service) (increase(trunkline_replica_failures_total{ {{- $of -}} }[10m])) > 5
  for: 5m
  severity: warning
  summary: Replicas of {{ `{{ $labels.service }}` }} fail again and again
  description: >-
    Calls go on at other replicas, with short pauses. Look for restarts and their reason (kubectl describe pod): memory limits,
    GPU errors, nodes that go.
- alert: TrunklineCallsRefused
  expr: sum by (leg, reason) (increase(trunkline_calls_refused_total{ {{- $of -}} }[5m])) > 0
  for: 5m
  severity: warning
  summary: Calls are refused on {{ `{{ $labels.leg }}` }} ({{ `{{ $labels.reason }}` }})
  description: >-
    Callers have been turned away for five minutes. At capacity: raise agent.replicas or autoscaling.maxReplicas, and
    the models' capacity with it; a call takes a stream of every model. Draining: the edge still sends calls to pods that go.
- alert: TrunklineNearCapacity
  expr: sum(trunkline_calls_active{ {{- $of -}} }) > 0.9 * sum(trunkline_calls_capacity{ {{- $of -}} })
  for: 5m
  severity: warning
  summary: More than nine tenths of all lines are taken
  description: >-
    The next callers will be refused. Raise agent.replicas or autoscaling.maxReplicas, and see that there are as many
    streams at the models; if the number of pods is at its maximum, look at their Pending pods for the resource that lacks.
- alert: TrunklineAgentDrainsLong
  expr: trunkline_agent_draining{ {{- $of -}} } == 1
  for: {{ index . 2 }}s
  severity: warning
  summary: Agent {{ `{{ $labels.pod }}` }} drains for longer than agent.drainSeconds
  description: >-
    It should have ended. See its log for what it waits for; its calls end when the pod is deleted by force.
- alert: TrunklineSlowFirstAudio
  expr: histogram_quantile(0.95, sum by (le, leg) (rate(trunkline_first_audio_seconds_bucket{ {{- $of -}} }[10m]))) > {{ $t.firstAudioSeconds }}
  for: 10m
  severity: warning
  summary: Callers on {{ `{{ $labels.leg }}` }} wait {{ `{{ $value | humanizeDuration }}` }} for an answer
  description: >-
    trunkline_stage_seconds says which stage is slow. A model's: look at trunkline_model_queue_seconds; if it has grown, add
    replicas of that model or lower its capacity. turn_decided: the agents lack CPU.
- alert: TrunklinePlaybackGaps
  expr: sum(rate(trunkline_playback_gaps_total{ {{- $of -}} }[10m])) > 0.05 * sum(trunkline_calls_active{ {{- $of -}} })
  for: 10m
  severity: warning
  summary: Answers are heard with gaps
  description: >-
    The decoder or the language model is slower than speech. Look at trunkline_model_step_seconds of both and add replicas, or
    lower models.decoder.capacity.
- alert: TrunklinePacketLoss
  expr: >-
    sum by (leg) (rate(trunkline_rtp_packets_lost_total{ {{- $of -}} }[5m]))
    > {{ $t.lossRatio }} * (sum by (leg) (rate(trunkline_rtp_packets_received_total{ {{- $of -}} }[5m]))
    + sum by (leg) (rate(trunkline_rtp_packets_lost_total{ {{- $of -}} }[5m])))
  for: 5m
  severity: warning
  summary: Callers' audio is lost on {{ `{{ $labels.leg }}` }}
  description: >-
    Packets from callers do not arrive. One node alone: its network or its CPU (softirq). All: the way to the trunk or the
    internet. See docs/webrtc.md for what is concealed.
- alert: TrunklinePoorVoice
  expr: histogram_quantile(0.1, sum by (le, leg) (rate(trunkline_call_mos_bucket{ {{- $of -}} }[15m]))) < {{ $t.mos }}
  for: 15m
  severity: warning
  summary: A tenth of the calls on {{ `{{ $labels.leg }}` }} sounds worse than {{ $t.mos }} (MOS)
  description: >-
    By loss, jitter and codec (ITU-T G.107). Look at trunkline_rtp_jitter_seconds and the loss; keep agents near the trunk.
- alert: TrunklineModelQueue
  expr: >-
    sum by (service) (rate(trunkline_model_queue_seconds_sum{ {{- $of -}} }[5m]))
    / sum by (service) (rate(trunkline_model_queue_seconds_count{ {{- $of -}} }[5m]) > 0) > 0.1
  for: 5m
  severity: warning
  summary: Work waits {{ `{{ $value | humanizeDuration }}` }} at {{ `{{ $labels.service }}` }}
  description: >-
    The steps of this model take longer than the calls allow. Add replicas (or its autoscaling.maxReplicas), or lower its
    capacity, so that calls are refused instead of slowed down.
- alert: TrunklineKvCacheFull
  expr: max by (pod) (trunkline_lm_kv_used_ratio{ {{- $of -}} }) > 0.95
  for: 5m
  severity: warning
  summary: The KV cache of {{ `{{ $labels.pod }}` }} is full
  description: >-
    Sessions are computed anew when room is made for others, which callers hear as slow answers. Raise KV_MIB in
    models.lm.settings, or lower models.lm.capacity.
{{- if index . 4 }}
- alert: TrunklineTritonPending
  expr: sum by (model, pod) (nv_inference_pending_request_count{ {{- $of -}} }) > 16
  for: 2m
  severity: warning
  summary: Requests wait for {{ `{{ $labels.model }}` }} at the Triton of {{ `{{ $labels.pod }}` }}
  description: >-
    The model hands requests on at once; when they wait, its process hangs or has no CPU. Look at the log of the container triton
    and at its CPU; delete the pod when it does not recover: calls go on elsewhere.
{{- end }}
{{- if index . 3 }}
- alert: TrunklineEdgeWithoutAgents
  expr: min by (pod) (trunkline_edge_workers_active{ {{- $of -}} }) == 0
  for: 1m
  severity: critical
  summary: The edge {{ `{{ $labels.pod }}` }} finds no agent
  description: >-
    Phone calls are refused. See that agents are ready, that the name of their headless service resolves in the edge's pod, and
    that the NetworkPolicy lets their SIP ports and edge.insidePort through (networkPolicy.nodes with hostNetwork).
{{- end }}
{{- end -}}
