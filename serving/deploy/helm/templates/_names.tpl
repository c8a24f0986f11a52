{{- define "labels" -}}
app.kubernetes.io/name: arsenal-serve
app.kubernetes.io/instance: {{ .Values.name }}
app.kubernetes.io/version: {{ .Values.model.version | int | quote }}
app.kubernetes.io/managed-by: arsenal
arsenal.model: {{ .Values.model.name }}
arsenal.env: {{ .Values.env }}
{{- end }}

{{- define "selector" -}}
app.kubernetes.io/name: arsenal-serve
app.kubernetes.io/instance: {{ .Values.name }}
arsenal.track: {{ .track }}
{{- end }}

{{- define "canary-labels" -}}
app.kubernetes.io/name: arsenal-serve
app.kubernetes.io/instance: {{ .Values.name }}
app.kubernetes.io/version: {{ .Values.canary.version | int | quote }}
app.kubernetes.io/managed-by: arsenal
arsenal.model: {{ .Values.model.name }}
arsenal.env: {{ .Values.env }}
{{- end }}

{{- define "pod" -}}
{{- $scheme := ternary "HTTPS" "HTTP" .Values.tls -}}
serviceAccountName: {{ .Values.name }}
automountServiceAccountToken: false
enableServiceLinks: false
terminationGracePeriodSeconds: {{ .Values.timings.grace | int }}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
topologySpreadConstraints:
  {{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
  - maxSkew: 1
    topologyKey: {{ . }}
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels: {{- include "selector" $ | nindent 8 }}
    matchLabelKeys: [pod-template-hash]
  {{- end }}
{{- with .Values.scheduling.priorityClass }}
priorityClassName: {{ . }}
{{- end }}
{{- with .Values.scheduling.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.scheduling.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.image.pullSecret }}
imagePullSecrets:
  - name: {{ . }}
{{- end }}
{{- with .Values.before }}
initContainers: {{- toYaml . | nindent 2 }}
{{- end }}
containers:
  - name: server
    image: {{ .image | quote }}
    imagePullPolicy: {{ contains "@sha256:" .image | ternary "IfNotPresent" "Always" }}
    command: [arsenal-serve]
    args: {{- toYaml .arguments | nindent 6 }}
    envFrom:
      - configMapRef: {name: {{ .Values.name }}}
    {{- if .Values.podName }}
    env:
      - name: POD_NAME
        valueFrom: {fieldRef: {fieldPath: metadata.name}}
    {{- end }}
    ports: {{- toYaml .Values.ports | nindent 6 }}
    resources: {{- toYaml .Values.resources | nindent 6 }}
    startupProbe:
      httpGet: {path: /v2/health/live, port: http, scheme: {{ $scheme }}}
      periodSeconds: 2
      timeoutSeconds: 3
      failureThreshold: {{ divf .Values.timings.start 2 | ceil | int }}
    readinessProbe:
      httpGet: {path: /v2/health/ready, port: http, scheme: {{ $scheme }}}
      periodSeconds: 5
      timeoutSeconds: 3
      failureThreshold: 2
    livenessProbe:
      httpGet: {path: /v2/health/live, port: http, scheme: {{ $scheme }}}
      periodSeconds: 10
      timeoutSeconds: 3
      failureThreshold: 6
    {{- if .Values.timings.detach }}
    lifecycle:
      preStop:
        {{- if eq .Values.timings.preStop "sleep" }}
        sleep: {seconds: {{ .Values.timings.detach | int }}}
        {{- else }}
        exec:
          command: [python, -c, "import time; time.sleep({{ .Values.timings.detach | int }})"]
        {{- end }}
    {{- end }}
    securityContext:
      allowPrivilegeEscalation: false
      readOnlyRootFilesystem: true
      capabilities: {drop: [ALL]}
    volumeMounts: {{- toYaml .mounts | nindent 6 }}
volumes: {{- toYaml .Values.volumes | nindent 2 }}
{{- end }}
