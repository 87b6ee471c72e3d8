{{/* What values must say together, beyond values.schema.json. All problems are named at once. */}}
{{- define "everloop.validate" -}}
{{- $problems := concat (include "everloop.connectionProblems" . | fromYamlArray) (include "everloop.accessProblems" . | fromYamlArray) (include "everloop.scalingProblems" . | fromYamlArray) -}}
{{- if $problems -}}
{{- fail (printf "\n\n%s\n\nshared/docs/kubernetes.md explains these values." (join "\n" $problems)) -}}
{{- end -}}
{{- end -}}

{{- define "everloop.oneDatabase" -}}
{{- if eq (not .from.url) (not .from.urlSecret.name) }}
- "{{ .at }}: set one of url and urlSecret.name"
{{- end }}
{{- if and .from.url (regexMatch "//[^/@]*:[^/@]*@" .from.url) }}
- "{{ .at }}.url holds a password: take it from a Secret, by passwordSecret or urlSecret"
{{- end }}
{{- end -}}

{{- define "everloop.connectionProblems" -}}
{{- $kafka := .Values.kafka -}}
{{- if not $kafka.bootstrap }}
- "kafka.bootstrap: name the brokers, HOST:PORT, separated by commas"
{{- end }}
{{- if and $kafka.existingSecret.name (or $kafka.clientConfig $kafka.userSecret.name) }}
- "kafka.existingSecret holds the whole file of client settings: leave kafka.clientConfig and kafka.userSecret empty"
{{- end }}
{{- $tls := hasSuffix "SSL" (get $kafka.clientConfig "security_protocol" | default "") }}
{{- if and $kafka.userSecret.name (not $tls) }}
- "kafka.userSecret is a certificate: set kafka.clientConfig.security_protocol to SSL"
{{- end }}
{{- if and $kafka.caSecret.name (not $tls) (not $kafka.existingSecret.name) }}
- "kafka.caSecret: set kafka.clientConfig.security_protocol to SSL, or kafka.existingSecret"
{{- end }}
{{- if and $kafka.acls.enabled (not (contains "{service}" (printf "%s%s" $kafka.existingSecret.name $kafka.userSecret.name))) }}
- "kafka.acls: lists are of a user for each service: name kafka.userSecret or kafka.existingSecret with {service}"
{{- end }}
{{- if .Values.postgresql.enabled }}
{{- range $name := list "registry" "monitoring" }}
{{- include "everloop.oneDatabase" (dict "at" (printf "postgresql.%s" $name) "from" (get $.Values.postgresql $name)) }}
{{- end }}
{{- end }}
{{- range $name := list "postgresql" "personal" }}
{{- $of := get $.Values $name }}
{{- if and $of.enabled (has $of.sslMode (list "verify-ca" "verify-full")) (not $of.caSecret.name) }}
- "{{ $name }}.sslMode {{ $of.sslMode }} takes the server's authority: set {{ $name }}.caSecret.name"
{{- end }}
{{- end }}
{{- if .Values.personal.enabled }}
{{- include "everloop.oneDatabase" (dict "at" "personal" "from" .Values.personal) }}
{{- if not .Values.personal.masterKeySecret.name }}
- "personal.masterKeySecret.name: the Secret with the master key, 32 bytes in base64"
{{- end }}
{{- end }}
{{- if eq (not .Values.artifacts.url) (not .Values.artifacts.existingClaim) }}
- "artifacts: set one of url (s3://..., gs://...) and existingClaim (a volume that training writes and registry and serving read)"
{{- end }}
{{- if and .Values.tls.enabled (not .Values.tls.secret) }}
- "tls.secret: name the Secrets with tls.crt, tls.key and ca.crt, such as everloop-{service}-tls"
{{- end }}
{{- if and .Values.tls.clientCertificates (not .Values.tls.enabled) }}
- "tls.clientCertificates needs tls.enabled"
{{- end }}
{{- end -}}

{{- define "everloop.accessProblems" -}}
{{- $access := .Values.access -}}
{{- if $access.enabled }}
{{- if not (or $access.keysSecret.name $access.issuer) }}
- "access: set keysSecret.name (made by `everloop keys create --file keys.json`) or issuer (an OIDC provider), or nobody could do a thing; for a trial, access.enabled=false"
{{- end }}
{{- if and $access.issuer (not $access.audience) }}
- "access.audience: tokens of access.issuer for others are not ours"
{{- end }}
{{- if not $access.servingTokenSecret.name }}
- "access.servingTokenSecret.name: serving reads windows from feature, which asks for a token"
{{- end }}
{{- if and .Values.operator.enabled (not .Values.operator.tokenSecret.name) }}
- "operator.tokenSecret.name: with access control the operator needs a key with the roles engineer and operator"
{{- end }}
{{- if and .Values.serviceMonitor.enabled (not .Values.serviceMonitor.tokenSecret.name) }}
- "serviceMonitor.tokenSecret.name: with access control /metrics asks for a token"
{{- end }}
{{- else }}
{{- if or .Values.ingress.enabled .Values.httpRoute.enabled }}
- "access.enabled=false with ingress or httpRoute: everybody could do everything; turn access control on"
{{- end }}
{{- if not .Values.networkPolicy.enabled }}
- "access.enabled=false needs networkPolicy.enabled: it says who reaches the services"
{{- end }}
{{- end }}
{{- range $name := list "ingress" "httpRoute" }}
{{- $of := get $.Values $name }}
{{- if and $of.enabled (not $of.hosts) }}
- "{{ $name }}.hosts: a host for each service that is to be reached: {serving: predict.example.com}"
{{- end }}
{{- end }}
{{- if and .Values.httpRoute.enabled (not .Values.httpRoute.parentRefs) }}
- "httpRoute.parentRefs: name the Gateway"
{{- end }}
{{- end -}}

{{- define "everloop.scalingProblems" -}}
{{- range $name, $service := (include "everloop.topology" . | fromYaml).services }}
{{- $values := get $.Values.services $name }}
{{- $scaling := $values.autoscaling }}
{{- $most := int (include "everloop.mostReplicas" $values) }}
{{- $of := ternary "autoscaling.maxReplicas" "replicas" $scaling.enabled }}
{{- if and $service.byPartition (gt $most (int $.Values.partitions)) }}
- "services.{{ $name }}.{{ $of }} is {{ $most }}, but topics have {{ $.Values.partitions }} partitions: a further replica of {{ $name }} would have nothing to do"
{{- end }}
{{- if and $service.database (not $.Values.postgresql.enabled) (gt $most 1) }}
- "services.{{ $name }}.{{ $of }}: with postgresql.enabled=false its database is a file of one replica: 1"
{{- end }}
{{- if and $service.database (not $.Values.postgresql.enabled) (not $values.persistence.enabled) }}
- "services.{{ $name }}.persistence.enabled: with postgresql.enabled=false its database is in its volume"
{{- end }}
{{- if $scaling.enabled }}
{{- if gt (int $scaling.minReplicas) (int $scaling.maxReplicas) }}
- "services.{{ $name }}.autoscaling: minReplicas is {{ $scaling.minReplicas }}, maxReplicas {{ $scaling.maxReplicas }}"
{{- end }}
{{- if not (or $scaling.cpu $scaling.lag) }}
- "services.{{ $name }}.autoscaling: set cpu (percent) or lag (records), or both"
{{- end }}
{{- if and $scaling.lag (not $service.scaledBy) }}
- "services.{{ $name }}.autoscaling.lag: {{ $name }} {{ $service.notScaled }}"
{{- end }}
{{- if and $scaling.cpu (not $values.resources.requests.cpu) }}
- "services.{{ $name }}.autoscaling.cpu is a share of resources.requests.cpu, which is not set"
{{- end }}
{{- if and (eq $name "serving") (not $scaling.cpu) (gt $most (int $.Values.partitions)) }}
- "services.serving.autoscaling.maxReplicas is {{ $most }}, but topics have {{ $.Values.partitions }} partitions: beyond them a replica answers requests alone, so set cpu too"
{{- end }}
{{- if and (eq $service.kind "StatefulSet") (not $service.database) (not $values.persistence.enabled) }}
- "services.{{ $name }}.autoscaling needs persistence.enabled: what a pod that goes has not delivered is in its volume"
{{- end }}
{{- end }}
{{- end }}
{{- end -}}
