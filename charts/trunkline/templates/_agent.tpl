{{/* Ports of SIP as JSON: one a worker and transport. */}}
{{- define "trunkline.sipPorts" -}}
{{- $sip := .Values.agent.sip -}}
{{- $ports := list -}}
{{- if $sip.enabled -}}
{{- range $worker := until (int $sip.workers) -}}
{{- $port := add $sip.port (mul 2 $worker) | int -}}
{{- range $transport := splitList "," $sip.transports -}}
{{- $number := ternary (add1 $port | int) $port (eq $transport "tls") -}}
{{- $protocol := ternary "UDP" "TCP" (eq $transport "udp") -}}
{{- $ports = append $ports (dict "name" (printf "sip-%s-%d" $transport $worker) "port" $number "protocol" $protocol) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- toJson $ports -}}
{{- end -}}

{{/* Secrets that are files, as JSON: setting, name, key. */}}
{{- define "trunkline.agentSecrets" -}}
{{- $s := .Values.agent.secrets -}}
{{- $wanted := list -}}
{{- range $pair := list (list "API_KEYS" $s.apiKeys) (list "PAGE_KEY" $s.pageKey) (list "STATE_KEYS" $s.stateKeys) (list "TWILIO_AUTH_TOKEN" $s.twilioAuthToken) (list "PLIVO_AUTH_TOKEN" $s.plivoAuthToken) (list "TURN_SECRET" .Values.turn.secret) (list "REDIS_PASSWORD" .Values.redis.passwordSecret) -}}
{{- $secret := index $pair 1 -}}
{{- if $secret.name -}}
{{- $wanted = append $wanted (dict "setting" (index $pair 0) "name" $secret.name "key" $secret.key) -}}
{{- end -}}
{{- end -}}
{{- toJson $wanted -}}
{{- end -}}

{{- define "trunkline.redisUrl" -}}
{{- .Values.redis.url | default (printf "redis://%s-redis:6379/0" (include "trunkline.fullname" .)) -}}
{{- end -}}

{{- define "trunkline.iceServers" -}}
{{- $urls := .Values.agent.webrtc.iceServers -}}
{{- with .Values.turn -}}
{{- if .enabled -}}
{{- $urls = concat $urls (list (printf "stun:%s:%d" .host (int .port)) (printf "turn:%s:%d?transport=udp" .host (int .port))) -}}
{{- if .tlsSecret }}{{ $urls = append $urls (printf "turns:%s:5349?transport=tcp" .host) }}{{ end -}}
{{- end -}}
{{- end -}}
{{- join "," $urls -}}
{{- end -}}

{{- define "trunkline.agentEnv" -}}
{{- $v := .Values -}}
{{- $a := $v.agent -}}
{{- $name := include "trunkline.fullname" . -}}
- name: POD_NAME
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
- {name: TRUNKLINE_AGENT_AGENT_ID, value: $(POD_NAME)}
{{- range $model := list "tokenizer" "lm" "decoder" }}
- {name: TRUNKLINE_AGENT_{{ upper $model }}, value: "dns:{{ $name }}-{{ $model }}:{{ include "trunkline.grpcPort" $model }}"}
{{- end }}
- {name: TRUNKLINE_AGENT_WAIT_FOR_MODELS, value: {{ $v.models.startSeconds | quote }}}
- {name: TRUNKLINE_AGENT_REDIS_URL, value: {{ include "trunkline.redisUrl" . | quote }}}
{{- with $v.redis.username }}
- {name: TRUNKLINE_AGENT_REDIS_USERNAME, value: {{ . | quote }}}
{{- end }}
{{- if $v.redis.caSecret.name }}
- {name: TRUNKLINE_AGENT_REDIS_TLS_CA, value: /run/secrets/redis/{{ $v.redis.caSecret.key }}}
{{- end }}
- {name: TRUNKLINE_AGENT_CALLS_LISTEN, value: "0.0.0.0:50050"}
- {name: TRUNKLINE_AGENT_HTTP_LISTEN, value: "0.0.0.0:{{ $a.http.port }}"}
{{- if $a.http.certificateSecret }}
- {name: TRUNKLINE_AGENT_HTTP_CERTIFICATE, value: /run/secrets/http/tls.crt}
- {name: TRUNKLINE_AGENT_HTTP_KEY, value: /run/secrets/http/tls.key}
{{- end }}
{{- with $a.http.origins }}
- {name: TRUNKLINE_AGENT_WEB_ORIGINS, value: {{ join "," . | quote }}}
{{- end }}
{{- with $a.http.publicUrl }}
- {name: TRUNKLINE_AGENT_PUBLIC_URL, value: {{ . | quote }}}
{{- end }}
- {name: TRUNKLINE_AGENT_CAPACITY, value: {{ $a.capacity | quote }}}
- {name: TRUNKLINE_AGENT_DRAIN_SECONDS, value: {{ $a.drainSeconds | quote }}}
- {name: TRUNKLINE_AGENT_DRAIN_NOTICE_SECONDS, value: {{ $a.drainNoticeSeconds | quote }}}
{{- if $a.sip.enabled }}
- {name: TRUNKLINE_AGENT_SIP_LISTEN, value: "0.0.0.0:{{ $a.sip.port }}"}
- {name: TRUNKLINE_AGENT_SIP_WORKERS, value: {{ $a.sip.workers | quote }}}
- {name: TRUNKLINE_AGENT_SIP_TRANSPORTS, value: {{ $a.sip.transports | quote }}}
- {name: TRUNKLINE_AGENT_SIP_SRTP, value: {{ $a.sip.srtp | quote }}}
- {name: TRUNKLINE_AGENT_SIP_BUSY, value: {{ $a.sip.busy | quote }}}
- {name: TRUNKLINE_AGENT_RTP_PORTS, value: "{{ $a.rtp.first }}-{{ $a.rtp.last }}"}
{{- with $a.sip.networks }}
- {name: TRUNKLINE_AGENT_SIP_NETWORKS, value: {{ join "," . | quote }}}
{{- end }}
{{- if $a.sip.tlsSecret }}
- {name: TRUNKLINE_AGENT_SIP_TLS_CERTIFICATE, value: /run/secrets/sip/tls.crt}
- {name: TRUNKLINE_AGENT_SIP_TLS_KEY, value: /run/secrets/sip/tls.key}
{{- end }}
{{- if $a.sip.trunksSecret }}
- {name: TRUNKLINE_AGENT_SIP_TRUNKS, value: /run/secrets/trunks/trunks.yaml}
{{- end }}
{{- else }}
- {name: TRUNKLINE_AGENT_SIP_LISTEN, value: ""}
{{- end }}
- {name: TRUNKLINE_AGENT_RESUME_SECONDS, value: {{ $a.webrtc.resumeSeconds | quote }}}
{{- with include "trunkline.iceServers" . }}
- {name: TRUNKLINE_AGENT_ICE_SERVERS, value: {{ . | quote }}}
{{- end }}
{{- if or $a.personas.files $a.personas.configMap }}
- {name: TRUNKLINE_AGENT_PERSONAS, value: /etc/trunkline/personas}
{{- end }}
{{- if $a.recordings.claim }}
- {name: TRUNKLINE_AGENT_RECORDINGS, value: /var/lib/trunkline/recordings}
- {name: TRUNKLINE_AGENT_RECORDING_FORMAT, value: {{ $a.recordings.format }}}
{{- end }}
{{- range include "trunkline.agentSecrets" . | fromJsonArray }}
- {name: TRUNKLINE_AGENT_{{ .setting }}_FILE, value: /run/secrets/agent/{{ .setting }}/{{ .key }}}
{{- end }}
- {name: TRUNKLINE_AGENT_KUBERNETES, value: "on"}
{{ include "trunkline.env" (list . "agent") }}
{{- range $key, $value := $a.settings }}
- {name: TRUNKLINE_AGENT_{{ $key }}, value: {{ $value | quote }}}
{{- end }}
{{- with $a.env }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "trunkline.agentMounts" -}}
{{- $v := .Values -}}
{{- $a := $v.agent -}}
{{- range include "trunkline.agentSecrets" . | fromJsonArray }}
- {name: secret-{{ .setting | lower | replace "_" "-" }}, mountPath: /run/secrets/agent/{{ .setting }}, readOnly: true}
{{- end }}
{{- if $v.redis.caSecret.name }}
- {name: redis, mountPath: /run/secrets/redis, readOnly: true}
{{- end }}
{{- if $a.http.certificateSecret }}
- {name: http, mountPath: /run/secrets/http, readOnly: true}
{{- end }}
{{- if $a.sip.tlsSecret }}
- {name: sip, mountPath: /run/secrets/sip, readOnly: true}
{{- end }}
{{- if $a.sip.trunksSecret }}
- {name: trunks, mountPath: /run/secrets/trunks, readOnly: true}
{{- end }}
{{- if or $a.personas.files $a.personas.configMap }}
- {name: personas, mountPath: /etc/trunkline/personas, readOnly: true}
{{- end }}
{{- if $a.recordings.claim }}
- {name: recordings, mountPath: /var/lib/trunkline/recordings}
{{- end }}
{{- end -}}

{{- define "trunkline.agentVolumes" -}}
{{- $v := .Values -}}
{{- $a := $v.agent -}}
{{- range include "trunkline.agentSecrets" . | fromJsonArray }}
- name: secret-{{ .setting | lower | replace "_" "-" }}
  secret: {secretName: {{ .name }}, defaultMode: 0440}
{{- end }}
{{- range $pair := list (list "redis" $v.redis.caSecret.name) (list "http" $a.http.certificateSecret) (list "sip" $a.sip.tlsSecret) (list "trunks" $a.sip.trunksSecret) }}
{{- if index $pair 1 }}
- name: {{ index $pair 0 }}
  secret: {secretName: {{ index $pair 1 }}, defaultMode: 0440}
{{- end }}
{{- end }}
{{- if $a.personas.files }}
- name: personas
  configMap: {name: {{ include "trunkline.fullname" . }}-personas}
{{- else if $a.personas.configMap }}
- name: personas
  configMap: {name: {{ $a.personas.configMap }}}
{{- end }}
{{- if $a.recordings.claim }}
- name: recordings
  persistentVolumeClaim: {claimName: {{ $a.recordings.claim }}}
{{- end }}
{{- end -}}
