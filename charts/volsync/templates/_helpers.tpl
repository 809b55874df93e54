{{- define "volsync.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "volsync.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- $name := default .Chart.Name .Values.nameOverride }}
{{- if contains $name .Release.Name }}
{{- .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" }}
{{- end }}
{{- end }}
{{- end }}

{{- define "volsync.selectorLabels" -}}
app.kubernetes.io/name: {{ include "volsync.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "volsync.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "volsync.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "volsync.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "volsync.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- /* What the operator's pods are found by. */}}
{{- define "volsync.podLabels" -}}
{{ include "volsync.selectorLabels" . }}
control-plane: {{ include "volsync.fullname" . }}-controller
{{- end }}

{{- /* The reference of an image, empty if none was given: (list image appVersion) */}}
{{- define "volsync.image" -}}
{{- $image := index . 0 }}
{{- if $image.image }}
{{- $image.image }}
{{- else if $image.repository }}
{{- printf "%s:%s" $image.repository ($image.tag | default (index . 1)) }}
{{- end }}
{{- end }}

{{- /* The operator's ServiceAccount, as the subject of a binding. */}}
{{- define "volsync.subject" -}}
- kind: ServiceAccount
  name: {{ include "volsync.serviceAccountName" . }}
  namespace: {{ .Release.Namespace }}
{{- end }}

{{- /* Whether the Prometheus Operator is to scrape the metrics. */}}
{{- define "volsync.isMonitored" -}}
{{- $served := .Capabilities.APIVersions.Has "monitoring.coreos.com/v1/ServiceMonitor" }}
{{- $enabled := toString .Values.serviceMonitor.enabled }}
{{- if or (eq $enabled "true") (and (eq $enabled "auto") $served) }}true{{ end }}
{{- end }}
