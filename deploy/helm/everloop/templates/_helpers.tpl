{{- define "everloop.fullname" -}}
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

{{- define "everloop.selector" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "everloop.labels" -}}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{ include "everloop.selector" . }}
app.kubernetes.io/version: {{ .Values.image.tag | default .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: everloop
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{/* What a service is: ports, database, artifacts, topics. As YAML, for fromYaml. */}}
{{- define "everloop.topology" -}}
{{ .Files.Get "files/topology.yaml" }}
{{- end -}}

{{- define "everloop.image" -}}
{{- printf "%s/%s:%s" .root.Values.image.registry .name (.root.Values.image.tag | default .root.Chart.AppVersion) -}}
{{- with get .root.Values.image.digests .name -}}@{{ . }}{{- end -}}
{{- end -}}

{{- define "everloop.scheme" -}}
{{- ternary "https" "http" .Values.tls.enabled -}}
{{- end -}}

{{/* The most replicas that a service can have. */}}
{{- define "everloop.mostReplicas" -}}
{{- if .autoscaling.enabled -}}{{ .autoscaling.maxReplicas }}{{- else -}}{{ .replicas }}{{- end -}}
{{- end -}}

{{/* The name of a Secret in which {service} stands for who mounts it. */}}
{{- define "everloop.secretName" -}}
{{- .secret | replace "{service}" .name -}}
{{- end -}}

{{- define "everloop.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "everloop.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{/* Host names by which a service's own Service, ingress and routes reach it. */}}
{{- define "everloop.allowedHosts" -}}
{{- $short := printf "%s-%s" (include "everloop.fullname" .root) .name -}}
{{- $ns := .root.Release.Namespace -}}
{{- $hosts := list $short (printf "%s.%s" $short $ns) (printf "%s.%s.svc" $short $ns) (printf "%s.%s.svc.%s" $short $ns .root.Values.clusterDomain) -}}
{{- $hosts = append $hosts (printf "$(EVERLOOP_INSTANCE).%s-pods.%s.svc" $short $ns) -}}
{{- with get .root.Values.ingress.hosts .name -}}{{- $hosts = append $hosts . -}}{{- end -}}
{{- with get .root.Values.httpRoute.hosts .name -}}{{- $hosts = append $hosts . -}}{{- end -}}
{{- join "," (concat $hosts .root.Values.allowedHosts | uniq) -}}
{{- end -}}

{{/* All replicas of feature that there can be: serving asks the one that has an entity's partition. */}}
{{- define "everloop.featureUrls" -}}
{{- $root := . -}}
{{- $name := printf "%s-feature" (include "everloop.fullname" .) -}}
{{- $urls := list -}}
{{- range $number := until (int (include "everloop.mostReplicas" .Values.services.feature)) -}}
{{- $urls = append $urls (printf "%s://%s-%d.%s-pods.%s.svc:8000" (include "everloop.scheme" $root) $name $number $name $root.Release.Namespace) -}}
{{- end -}}
{{- join "," $urls -}}
{{- end -}}

{{/* kafka.json, where it holds no secret. */}}
{{- define "everloop.kafkaConfig" -}}
{{- $config := deepCopy .Values.kafka.clientConfig -}}
{{- if .Values.kafka.caSecret.name -}}{{- $config = set $config "ssl_cafile" "/run/everloop/kafka/ca.crt" -}}{{- end -}}
{{- if .Values.kafka.userSecret.name -}}
{{- $config = merge $config (dict "ssl_certfile" "/run/everloop/kafka/user.crt" "ssl_keyfile" "/run/everloop/kafka/user.key") -}}
{{- end -}}
{{- toJson $config -}}
{{- end -}}

{{- define "everloop.hasKafkaFiles" -}}
{{- if or .Values.kafka.existingSecret.name .Values.kafka.clientConfig -}}true{{- end -}}
{{- end -}}

{{/* The volume of Kafka's client settings; `config` is the ConfigMap of kafka.json, `name` who mounts it. */}}
{{- define "everloop.kafkaVolume" -}}
{{- $kafka := .root.Values.kafka -}}
- name: kafka
  projected:
    defaultMode: 0440
    sources:
    {{- if $kafka.existingSecret.name }}
      - secret: {name: {{ include "everloop.secretName" (dict "secret" $kafka.existingSecret.name "name" .name) }}, items: [{key: {{ $kafka.existingSecret.key }}, path: kafka.json}]}
    {{- else }}
      - configMap: {name: {{ .config }}}
    {{- end }}
    {{- with $kafka.caSecret }}
    {{- if .name }}
      - secret: {name: {{ .name }}, items: [{key: {{ .key }}, path: ca.crt}]}
    {{- end }}
    {{- end }}
    {{- with $kafka.userSecret }}
    {{- if .name }}
      - secret:
          name: {{ include "everloop.secretName" (dict "secret" .name "name" $.name) }}
          items: [{key: {{ .certKey }}, path: user.crt}, {key: {{ .keyKey }}, path: user.key}]
    {{- end }}
    {{- end }}
{{- end -}}

{{/* Secrets of which the service asks that their owner alone may read them: a Secret's files belong to root, so they are copied. */}}
{{- define "everloop.privateFiles" -}}
{{- $files := dict -}}
{{- $signing := .root.Values.signing -}}
{{- if eq .name "training" -}}{{- with $signing.trainingKeySecret -}}{{- if .name -}}{{- $files = set $files "signing.key" . -}}{{- end -}}{{- end -}}{{- end -}}
{{- if eq .name "registry" -}}{{- with $signing.registryKeySecret -}}{{- if .name -}}{{- $files = set $files "signing.key" . -}}{{- end -}}{{- end -}}{{- end -}}
{{- if and .service.personal .root.Values.personal.enabled -}}{{- $files = set $files "master.key" .root.Values.personal.masterKeySecret -}}{{- end -}}
{{- toYaml $files -}}
{{- end -}}
