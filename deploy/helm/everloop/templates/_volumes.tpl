{{/* A Secret as a folder that the service's user may read. */}}
{{- define "everloop.secretVolume" -}}
- name: {{ .volume }}
  secret: {secretName: {{ .secret }}, defaultMode: 0440}
{{- end -}}

{{/* Pairs of name and path of what a service mounts beside /data and /tmp, for volumes and mounts alike. */}}
{{- define "everloop.volumes" -}}
{{- $access := .root.Values.access -}}
- name: tmp
  emptyDir: {sizeLimit: 64Mi}
{{- if not .values.persistence.enabled }}
- name: data
  emptyDir: {sizeLimit: {{ .values.persistence.size }}}
{{- end }}
{{- if include "everloop.hasKafkaFiles" .root }}
{{ include "everloop.kafkaVolume" (dict "root" .root "name" .name "config" (printf "%s-kafka" (include "everloop.fullname" .root))) }}
{{- end }}
{{- if .root.Values.tls.enabled }}
{{ include "everloop.secretVolume" (dict "volume" "tls" "secret" (include "everloop.secretName" (dict "secret" .root.Values.tls.secret "name" .name))) }}
{{- end }}
{{- if and $access.enabled $access.keysSecret.name }}
{{ include "everloop.secretVolume" (dict "volume" "access" "secret" $access.keysSecret.name) }}
{{- end }}
{{- with include "everloop.tokenSecret" . }}
{{ include "everloop.secretVolume" (dict "volume" "token" "secret" .) }}
{{- end }}
{{- if eq .name "monitoring" }}
{{- if and $access.enabled $access.console.clientSecret.name }}
{{ include "everloop.secretVolume" (dict "volume" "console" "secret" $access.console.clientSecret.name) }}
{{- end }}
{{- if .root.Values.receivers.secret }}
{{ include "everloop.secretVolume" (dict "volume" "receivers" "secret" .root.Values.receivers.secret) }}
{{- end }}
{{- end }}
{{- with (include "everloop.server" . | fromYaml).caSecret }}
{{- if .name }}
- name: postgresql
  secret:
    secretName: {{ .name }}
    defaultMode: 0440
    items: [{key: {{ .key }}, path: ca.crt}]
{{- end }}
{{- end }}
{{- if ne .service.artifacts "none" }}
{{- if .root.Values.artifacts.existingClaim }}
- name: artifacts
  persistentVolumeClaim: {claimName: {{ .root.Values.artifacts.existingClaim }}, readOnly: {{ eq .service.artifacts "read" }}}
{{- end }}
{{- if .root.Values.artifacts.googleSecret.name }}
{{ include "everloop.secretVolume" (dict "volume" "google" "secret" .root.Values.artifacts.googleSecret.name) }}
{{- end }}
{{- end }}
{{- with .root.Values.signing.trustedKeysConfigMap }}
{{- if .name }}
- name: trusted
  configMap: {name: {{ .name }}}
{{- end }}
{{- end }}
{{- with include "everloop.privateFiles" . | fromYaml }}
- name: private
  emptyDir: {medium: Memory, sizeLimit: 1Mi}
- name: private-from
  projected:
    defaultMode: 0440
    sources:
    {{- range $file, $from := . }}
      - secret: {name: {{ $from.name }}, items: [{key: {{ $from.key }}, path: {{ $file }}}]}
    {{- end }}
{{- end }}
{{- end -}}

{{/* The Secret of the token that a service shows another. */}}
{{- define "everloop.tokenSecret" -}}
{{- if .root.Values.access.enabled -}}
{{- if eq .name "serving" -}}{{ .root.Values.access.servingTokenSecret.name }}{{- end -}}
{{- if eq .name "monitoring" -}}{{ .root.Values.access.monitoringTokenSecret.name }}{{- end -}}
{{- end -}}
{{- end -}}

{{/* The mounts of the main container: every volume but `data` and `tmp` at /run/everloop/NAME. */}}
{{- define "everloop.mounts" -}}
- {name: data, mountPath: /data}
{{- range (include "everloop.volumes" . | fromYamlArray) }}
{{- if eq .name "tmp" }}
- {name: tmp, mountPath: /tmp}
{{- else if eq .name "artifacts" }}
- {name: artifacts, mountPath: /artifacts, readOnly: {{ eq $.service.artifacts "read" }}}
{{- else if not (has .name (list "data" "private-from")) }}
- {name: {{ .name }}, mountPath: /run/everloop/{{ .name }}, readOnly: true}
{{- end }}
{{- end }}
{{- end -}}
