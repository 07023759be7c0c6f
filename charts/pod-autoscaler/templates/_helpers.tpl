{{/* The name of everything. Not the release's: there can be one in a cluster. */}}
{{- define "pod-autoscaler.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 52 | trimSuffix "-" }}
{{- end }}

{{- define "pod-autoscaler.selector" -}}
app.kubernetes.io/name: {{ include "pod-autoscaler.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "pod-autoscaler.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "pod-autoscaler.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: tandem
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{/* The webhooks' configuration, which the program writes its certificate authority into. */}}
{{- define "pod-autoscaler.webhook" -}}
{{ include "pod-autoscaler.name" . }}-admission
{{- end }}

{{- define "pod-autoscaler.serviceAccount" -}}
{{- default (include "pod-autoscaler.name" .) .Values.serviceAccount.name }}
{{- end }}
