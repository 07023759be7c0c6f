{{/* The name of everything. Not the release's: there can be one in a cluster. */}}
{{- define "node-provisioner.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 52 | trimSuffix "-" }}
{{- end }}

{{- define "node-provisioner.selector" -}}
app.kubernetes.io/name: {{ include "node-provisioner.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "node-provisioner.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "node-provisioner.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: tandem
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "node-provisioner.serviceAccount" -}}
{{- default (include "node-provisioner.name" .) .Values.serviceAccount.name }}
{{- end }}
