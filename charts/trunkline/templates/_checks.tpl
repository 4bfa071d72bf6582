{{/* What a schema cannot say. Every message names the values and what they may be. */}}
{{- define "trunkline.check" -}}
{{- $v := .Values -}}
{{- $a := $v.agent -}}

{{- $longest := add $a.preStopSeconds $a.drainSeconds 10 | int -}}
{{- if lt (int $a.terminationGracePeriodSeconds) $longest -}}
{{- fail (printf "agent.terminationGracePeriodSeconds is %d: calls would be cut. It must be at least preStopSeconds + drainSeconds + 10 = %d" (int $a.terminationGracePeriodSeconds) $longest) -}}
{{- end -}}
{{- if and (gt (int $a.drainSeconds) 0) (ge (int $a.drainNoticeSeconds) (int $a.drainSeconds)) -}}
{{- fail (printf "agent.drainNoticeSeconds is %d: it must be less than agent.drainSeconds, %d" (int $a.drainNoticeSeconds) (int $a.drainSeconds)) -}}
{{- end -}}
{{- $longest := add $v.models.drainSeconds 20 | int -}}
{{- if lt (int $v.models.terminationGracePeriodSeconds) $longest -}}
{{- fail (printf "models.terminationGracePeriodSeconds is %d: streams would be cut. It must be at least models.drainSeconds + 20 = %d" (int $v.models.terminationGracePeriodSeconds) $longest) -}}
{{- end -}}

{{- $ports := add (sub $a.rtp.last $a.rtp.first) 1 | int -}}
{{- if lt $ports (mul 4 $a.capacity | int) -}}
{{- fail (printf "agent.rtp has %d ports for %d calls: each wants 4" $ports (int $a.capacity)) -}}
{{- end -}}
{{- if gt (int $a.webrtc.ports.first) (int $a.webrtc.ports.last) -}}
{{- fail "agent.webrtc.ports: first is behind last" -}}
{{- end -}}
{{- if and (le (int $a.rtp.first) (int $a.webrtc.ports.last)) (le (int $a.webrtc.ports.first) (int $a.rtp.last)) -}}
{{- fail "agent.rtp and agent.webrtc.ports overlap" -}}
{{- end -}}
{{- if and (contains "tls" $a.sip.transports) (not $a.sip.tlsSecret) -}}
{{- fail "agent.sip.transports has tls: agent.sip.tlsSecret is missing" -}}
{{- end -}}
{{- if and $a.personas.files $a.personas.configMap -}}
{{- fail "agent.personas: give files or configMap, not both" -}}
{{- end -}}

{{- if and $v.redis.bundled.enabled $v.redis.url -}}
{{- fail "redis.url and redis.bundled.enabled exclude each other" -}}
{{- end -}}
{{- if not (or $v.redis.bundled.enabled $v.redis.url) -}}
{{- fail "redis.url is missing, or redis.bundled.enabled=true for a trial" -}}
{{- end -}}

{{- if and (eq $v.weights.source "claim") (not $v.weights.claim) -}}
{{- fail "weights.source is claim: weights.claim is missing" -}}
{{- end -}}
{{- if and (eq $v.weights.source "init") (not $v.weights.init.image) -}}
{{- fail "weights.source is init: weights.init.image is missing" -}}
{{- end -}}
{{- if eq $v.weights.source "oci" -}}
{{- if not $v.weights.oci.reference -}}
{{- fail "weights.source is oci: weights.oci.reference is missing" -}}
{{- end -}}
{{- if semverCompare "<1.33.0-0" .Capabilities.KubeVersion.Version -}}
{{- fail (printf "weights.source oci needs Kubernetes 1.33 or later; this is %s. Use claim or init" .Capabilities.KubeVersion.Version) -}}
{{- end -}}
{{- end -}}

{{- if and (eq $v.grpc.security "token") (not $v.grpc.token.secret) -}}
{{- fail "grpc.security is token: grpc.token.secret is missing" -}}
{{- end -}}
{{- if eq $v.grpc.security "mtls" -}}
{{- if $v.grpc.mtls.certManager.enabled -}}
{{- if not $v.grpc.mtls.certManager.issuerRef.name -}}
{{- fail "grpc.mtls.certManager.issuerRef.name is missing" -}}
{{- end -}}
{{- else -}}
{{- range $component, $secret := $v.grpc.mtls.secrets -}}
{{- if not $secret -}}
{{- fail (printf "grpc.security is mtls: grpc.mtls.secrets.%s is missing, or grpc.mtls.certManager.enabled=true" $component) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- if and $v.turn.enabled (not $v.turn.host) -}}
{{- fail "turn.enabled: turn.host is missing, the name or address at which browsers reach it" -}}
{{- end -}}
{{- if and $v.turn.enabled (not $v.turn.secret.name) -}}
{{- fail "turn.enabled: turn.secret.name is missing" -}}
{{- end -}}
{{- if and $v.turn.enabled (not $v.turn.peers) -}}
{{- fail "turn.enabled: turn.peers is missing, the addresses of agents: relays to private networks are refused otherwise" -}}
{{- end -}}
{{- if and $v.edge.enabled (not $a.sip.enabled) -}}
{{- fail "edge.enabled: agent.sip.enabled is false" -}}
{{- end -}}
{{- if and $v.edge.enabled (ne $a.sip.busy "503") -}}
{{- fail "edge.enabled: agent.sip.busy must be 503, on which the edge tries another agent" -}}
{{- end -}}
{{- if and $v.networkPolicy.enabled (or $a.hostNetwork (and $v.edge.enabled $v.edge.hostNetwork)) (not $v.networkPolicy.nodes) -}}
{{- fail "networkPolicy.nodes is missing: pods with hostNetwork are seen with their nodes' addresses (agent.hostNetwork, edge.hostNetwork)" -}}
{{- end -}}

{{- if and $a.ingress.enabled $a.httpRoute.enabled -}}
{{- fail "agent.ingress and agent.httpRoute exclude each other" -}}
{{- end -}}
{{- if and $a.httpRoute.enabled (not $a.httpRoute.parentRefs) -}}
{{- fail "agent.httpRoute.enabled: agent.httpRoute.parentRefs is missing" -}}
{{- end -}}

{{- $scaled := $a.autoscaling.enabled -}}
{{- range $name := list "tokenizer" "lm" "decoder" -}}
{{- if and (get $v.models $name).autoscaling.enabled (ne $v.topology "shared") }}{{ $scaled = true }}{{ end -}}
{{- end -}}
{{- if and $v.shared.autoscaling.enabled (eq $v.topology "shared") }}{{ $scaled = true }}{{ end -}}
{{- if and $scaled (not $v.telemetry.metrics) -}}
{{- fail "autoscaling needs telemetry.metrics" -}}
{{- end -}}
{{- range $which := list $a.autoscaling $v.models.tokenizer.autoscaling $v.models.lm.autoscaling $v.models.decoder.autoscaling $v.shared.autoscaling -}}
{{- if gt (int $which.minReplicas) (int $which.maxReplicas) -}}
{{- fail (printf "autoscaling: minReplicas %d is more than maxReplicas %d" (int $which.minReplicas) (int $which.maxReplicas)) -}}
{{- end -}}
{{- end -}}
{{- if and (not $v.serviceAccount.create) (not $v.serviceAccount.name) -}}
{{- fail "serviceAccount.name is missing: serviceAccount.create is false" -}}
{{- end -}}
{{- end -}}
