{{/* How a probe asks: with certificates of clients only the pod itself has one to show. {root, path} */}}
{{- define "everloop.probe" -}}
{{- if .root.Values.tls.clientCertificates -}}
exec: {command: [python, -IS, /opt/healthy.py, {{ .path }}]}
{{- else -}}
httpGet: {path: {{ .path }}, port: http, scheme: {{ include "everloop.scheme" .root | upper }}}
{{- end -}}
{{- end -}}

{{- define "everloop.probes" -}}
# Until it is ready a service reads what it missed, which takes as long as it takes.
startupProbe:
  {{- include "everloop.probe" (dict "root" .root "path" "/livez") | nindent 2 }}
  periodSeconds: 5
  timeoutSeconds: 5
  failureThreshold: 60
livenessProbe:
  {{- include "everloop.probe" (dict "root" .root "path" "/livez") | nindent 2 }}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  {{- include "everloop.probe" (dict "root" .root "path" "/readyz") | nindent 2 }}
  periodSeconds: 5
  timeoutSeconds: 5
  failureThreshold: 2
{{- end -}}

{{- define "everloop.spread" -}}
{{- range .root.Values.topologySpread.topologyKeys }}
- maxSkew: 1
  topologyKey: {{ . }}
  whenUnsatisfiable: {{ $.root.Values.topologySpread.whenUnsatisfiable }}
  labelSelector:
    matchLabels:
      {{- include "everloop.selector" $.root | nindent 6 }}
      app.kubernetes.io/component: {{ $.name }}
{{- end }}
{{- end -}}

{{/* The pod of a service: {root, name, service, values}. */}}
{{- define "everloop.pod" -}}
metadata:
  labels:
    {{- include "everloop.selector" .root | nindent 4 }}
    app.kubernetes.io/component: {{ .name }}
  annotations:
    everloop.io/kafka-config: {{ include "everloop.kafkaConfig" .root | sha256sum | trunc 16 }}
    {{- with .values.podAnnotations }}{{ toYaml . | nindent 4 }}{{ end }}
spec:
  serviceAccountName: {{ include "everloop.fullname" .root }}-{{ .name }}
  automountServiceAccountToken: false
  enableServiceLinks: false # they would be settings of names that begin as ours do
  terminationGracePeriodSeconds: {{ .values.terminationGracePeriodSeconds }}
  securityContext: {{- include "everloop.podSecurity" . | nindent 4 }}
  {{- with .root.Values.image.pullSecrets }}
  imagePullSecrets: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with include "everloop.privateFiles" . | fromYaml }}
  initContainers:
    - name: private-files # to files of the service's own user, which it asks for
      image: {{ include "everloop.image" $ }}
      imagePullPolicy: {{ $.root.Values.image.pullPolicy }}
      command: [sh, -c, "install -m 400 /run/everloop/private-from/* /run/everloop/private/"]
      securityContext: {{- include "everloop.containerSecurity" $ | nindent 8 }}
      resources: {requests: {cpu: 10m, memory: 16Mi}, limits: {memory: 32Mi}}
      volumeMounts:
        - {name: private-from, mountPath: /run/everloop/private-from, readOnly: true}
        - {name: private, mountPath: /run/everloop/private}
  {{- end }}
  containers:
    - name: {{ .name }}
      image: {{ include "everloop.image" . }}
      imagePullPolicy: {{ .root.Values.image.pullPolicy }}
      securityContext: {{- include "everloop.containerSecurity" . | nindent 8 }}
      ports:
        - {name: http, containerPort: 8000}
        {{- with .service.grpcPort }}
        - {name: grpc, containerPort: {{ . }}}
        {{- end }}
      env: {{- include "everloop.env" . | nindent 8 }}
      {{- include "everloop.envFrom" . | nindent 6 }}
      # Until every node knows that the pod goes, requests still come.
      lifecycle: {preStop: {sleep: {seconds: 5}}}
      {{- include "everloop.probes" . | nindent 6 }}
      resources: {{- toYaml .values.resources | nindent 8 }}
      volumeMounts: {{- include "everloop.mounts" . | nindent 8 }}
  volumes: {{- include "everloop.volumes" . | nindent 4 }}
  {{- if .root.Values.topologySpread.enabled }}
  topologySpreadConstraints: {{- include "everloop.spread" . | nindent 4 }}
  {{- end }}
  {{- with .values.nodeSelector }}
  nodeSelector: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .values.tolerations }}
  tolerations: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .values.affinity }}
  affinity: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .values.hostAliases }}
  hostAliases: {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}

{{- define "everloop.envFrom" -}}
{{- $sources := list -}}
{{- if ne .service.artifacts "none" -}}{{- with .root.Values.artifacts.credentialsSecret -}}{{- $sources = append $sources . -}}{{- end -}}{{- end -}}
{{- if eq .name "monitoring" -}}{{- with .root.Values.receivers.variablesSecret -}}{{- $sources = append $sources . -}}{{- end -}}{{- end -}}
{{- with $sources }}
envFrom:
{{- range . }}
  - secretRef: {name: {{ . }}}
{{- end }}
{{- end }}
{{- end -}}
