{{- define "shop.labels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}
{{- /* A pod that runs a script to its end: words are a name, a script and the context. */ -}}
{{- define "shop.script" -}}
restartPolicy: Never
terminationGracePeriodSeconds: 1
containers:
- name: main
  image: {{ .image }}
  imagePullPolicy: Never
  command: [/bin/busybox, sh, -c, {{ .script | quote }}]
{{- end }}
