{{/* NAME from a setting that may be left out. */}}
{{- define "everloop.variable" -}}
{{- if .value }}
- {name: {{ .variable }}, value: {{ include "everloop.plain" .value | quote }}}
{{- end }}
{{- end -}}

{{/* A database: its URL, by value or from a Secret, and the password. */}}
{{- define "everloop.databaseEnv" -}}
{{- if .from.urlSecret.name }}
- name: {{ .variable }}
  valueFrom: {secretKeyRef: {name: {{ .from.urlSecret.name }}, key: {{ .from.urlSecret.key }}}}
{{- else }}
- {name: {{ .variable }}, value: {{ .from.url | quote }}}
{{- end }}
{{- if .from.passwordSecret.name }}
- name: PGPASSWORD
  valueFrom: {secretKeyRef: {name: {{ .from.passwordSecret.name }}, key: {{ .from.passwordSecret.key }}}}
{{- end }}
{{- end -}}

{{- define "everloop.accessEnv" -}}
{{- $access := .Values.access -}}
{{- if $access.enabled }}
- {name: EVERLOOP_AUTH, value: "on"}
{{- if $access.keysSecret.name }}
- {name: EVERLOOP_AUTH_KEYS, value: /run/everloop/access/{{ $access.keysSecret.key }}}
{{- end }}
{{- include "everloop.variable" (dict "variable" "EVERLOOP_AUTH_ISSUER" "value" $access.issuer) }}
{{- include "everloop.variable" (dict "variable" "EVERLOOP_AUTH_AUDIENCE" "value" $access.audience) }}
{{- include "everloop.variable" (dict "variable" "EVERLOOP_AUTH_ALGORITHMS" "value" $access.algorithms) }}
{{- include "everloop.variable" (dict "variable" "EVERLOOP_AUTH_JWKS_URL" "value" $access.jwksUrl) }}
{{- include "everloop.variable" (dict "variable" "EVERLOOP_AUTH_ROLES_CLAIM" "value" $access.rolesClaim) }}
{{- include "everloop.variable" (dict "variable" "EVERLOOP_AUTH_TEAM_CLAIM" "value" $access.teamClaim) }}
{{- else }}
# Everybody who reaches the pod may do everything: the network policies say who does.
- {name: EVERLOOP_AUTH, value: "off"}
- {name: EVERLOOP_PUBLISHED_ON, value: 127.0.0.1}
{{- end }}
{{- include "everloop.variable" (dict "variable" "EVERLOOP_LIMIT_REQUESTS_PER_S" "value" $access.limits.requestsPerS) }}
{{- include "everloop.variable" (dict "variable" "EVERLOOP_LIMIT_ROWS_PER_S" "value" $access.limits.rowsPerS) }}
{{- include "everloop.variable" (dict "variable" "EVERLOOP_LIMIT_BYTES_PER_S" "value" $access.limits.bytesPerS) }}
{{- include "everloop.variable" (dict "variable" "EVERLOOP_LIMIT_IN_PROGRESS" "value" $access.limits.inProgress) }}
{{- end -}}

{{- define "everloop.tlsEnv" -}}
{{- if .Values.tls.enabled }}
- {name: EVERLOOP_TLS_CERT, value: /run/everloop/tls/tls.crt}
- {name: EVERLOOP_TLS_KEY, value: /run/everloop/tls/tls.key}
- {name: EVERLOOP_TLS_CA, value: /run/everloop/tls/ca.crt}
{{- if .Values.tls.clientCertificates }}
- {name: EVERLOOP_TLS_CLIENT_CA, value: /run/everloop/tls/ca.crt}
{{- end }}
{{- end }}
{{- end -}}

{{- define "everloop.kafkaEnv" -}}
- {name: EVERLOOP_KAFKA_BOOTSTRAP, value: {{ .Values.kafka.bootstrap | quote }}}
- {name: EVERLOOP_PARTITIONS, value: {{ .Values.partitions | quote }}}
- {name: EVERLOOP_REPLICATION_FACTOR, value: {{ .Values.replicationFactor | quote }}}
{{- include "everloop.variable" (dict "variable" "EVERLOOP_TOPIC_PREFIX" "value" .Values.topicPrefix) }}
{{- if include "everloop.hasKafkaFiles" . }}
- {name: EVERLOOP_KAFKA_CONFIG, value: /run/everloop/kafka/kafka.json}
{{- end }}
{{- end -}}

{{- define "everloop.artifactsEnv" -}}
{{- if ne .service.artifacts "none" }}
- {name: EVERLOOP_ARTIFACTS, value: {{ .root.Values.artifacts.url | default "file:///artifacts" | quote }}}
{{- if .root.Values.artifacts.googleSecret.name }}
- {name: GOOGLE_APPLICATION_CREDENTIALS, value: /run/everloop/google/{{ .root.Values.artifacts.googleSecret.key }}}
{{- end }}
{{- end }}
{{- end -}}

{{/* What one service has that others do not: addresses and tokens for the services that it asks, the console. */}}
{{- define "everloop.ownEnv" -}}
{{- $access := .root.Values.access -}}
{{- $at := printf "%s://%s" (include "everloop.scheme" .root) (include "everloop.fullname" .root) -}}
{{- if eq .name "serving" }}
- {name: EVERLOOP_SERVING_FEATURE_URL, value: {{ include "everloop.featureUrls" .root | quote }}}
{{- if and $access.enabled $access.servingTokenSecret.name }}
- {name: EVERLOOP_SERVING_TOKEN_FILE, value: /run/everloop/token/{{ $access.servingTokenSecret.key }}}
{{- end }}
{{- else if eq .name "monitoring" }}
- {name: EVERLOOP_MONITORING_INGEST_URL, value: "{{ $at }}-ingest:8000"}
- {name: EVERLOOP_MONITORING_REGISTRY_URL, value: "{{ $at }}-registry:8000"}
{{- include "everloop.variable" (dict "variable" "EVERLOOP_MONITORING_CONSOLE_URL" "value" .root.Values.consoleUrl) }}
{{- if and $access.enabled $access.monitoringTokenSecret.name }}
- {name: EVERLOOP_MONITORING_TOKEN_FILE, value: /run/everloop/token/{{ $access.monitoringTokenSecret.key }}}
{{- end }}
{{- if and $access.enabled $access.console.clientId }}
- {name: EVERLOOP_AUTH_CLIENT_ID, value: {{ $access.console.clientId | quote }}}
- {name: EVERLOOP_AUTH_CLIENT_SCOPE, value: {{ $access.console.scope | quote }}}
{{- if $access.console.clientSecret.name }}
- {name: EVERLOOP_AUTH_CLIENT_SECRET_FILE, value: /run/everloop/console/{{ $access.console.clientSecret.key }}}
{{- end }}
{{- end }}
{{- if .root.Values.receivers.secret }}
- {name: EVERLOOP_MONITORING_RECEIVERS, value: /run/everloop/receivers/{{ .root.Values.receivers.key }}}
{{- end }}
{{- end }}
{{- end -}}

{{/* Where a client in a pod finds the services. */}}
{{- define "everloop.urlsEnv" -}}
{{- range $name, $_ := (include "everloop.topology" . | fromYaml).services }}
- {name: EVERLOOP_{{ upper $name }}_URL, value: "{{ include "everloop.scheme" $ }}://{{ include "everloop.fullname" $ }}-{{ $name }}:8000"}
{{- end }}
{{- end -}}

{{/* The environment of a service: {root, name, service (of the topology), values}. */}}
{{- define "everloop.env" -}}
{{- $prefix := printf "EVERLOOP_%s" (upper .name) -}}
- {name: EVERLOOP_INSTANCE, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
- {name: EVERLOOP_LOG_LEVEL, value: {{ .root.Values.logLevel }}}
- {name: EVERLOOP_ALLOWED_HOSTS, value: {{ include "everloop.allowedHosts" . | quote }}}
{{ include "everloop.kafkaEnv" .root }}
{{- include "everloop.accessEnv" .root }}
{{- include "everloop.tlsEnv" .root }}
{{- include "everloop.artifactsEnv" . }}
{{- include "everloop.ownEnv" . }}
{{- if and .service.database .root.Values.postgresql.enabled }}
{{- include "everloop.databaseEnv" (dict "variable" (printf "%s_DATABASE_URL" $prefix) "from" (get .root.Values.postgresql .name)) }}
{{- end }}
{{- if and .service.personal .root.Values.personal.enabled }}
{{- include "everloop.databaseEnv" (dict "variable" "EVERLOOP_PERSONAL_KEYS_URL" "from" .root.Values.personal) }}
- {name: EVERLOOP_PERSONAL_MASTER_KEY, value: /run/everloop/private/master.key}
{{- end }}
{{- with include "everloop.server" . | fromYaml }}
{{- include "everloop.variable" (dict "variable" "PGSSLMODE" "value" .sslMode) }}
{{- if .caSecret.name }}
- {name: PGSSLROOTCERT, value: /run/everloop/postgresql/ca.crt}
{{- end }}
{{- end }}
{{- if hasKey (include "everloop.privateFiles" . | fromYaml) "signing.key" }}
- {name: EVERLOOP_SIGNING_KEY, value: /run/everloop/private/signing.key}
{{- end }}
{{- with .root.Values.signing.trustedKeysConfigMap }}
{{- if .name }}
- {name: EVERLOOP_TRUSTED_KEYS, value: /run/everloop/trusted/{{ .key }}}
{{- end }}
{{- end }}
{{- range $setting, $value := .root.Values.settings }}
- {name: EVERLOOP_{{ $setting }}, value: {{ include "everloop.plain" $value | quote }}}
{{- end }}
{{- range $setting, $value := .values.settings }}
- {name: {{ $prefix }}_{{ $setting }}, value: {{ include "everloop.plain" $value | quote }}}
{{- end }}
{{- end -}}

{{/* A number as it was written: Helm reads large ones as floats. */}}
{{- define "everloop.plain" -}}
{{- if and (kindIs "float64" .) (eq (floor .) .) -}}{{ int64 . }}{{- else -}}{{ . }}{{- end -}}
{{- end -}}

{{/* The PostgreSQL that a service connects to, if any: a service has a database or opens personal fields, never both. */}}
{{- define "everloop.server" -}}
{{- if and .service.database .root.Values.postgresql.enabled -}}{{ pick .root.Values.postgresql "sslMode" "caSecret" | toYaml }}
{{- else if and .service.personal .root.Values.personal.enabled -}}{{ pick .root.Values.personal "sslMode" "caSecret" | toYaml }}
{{- end -}}
{{- end -}}
