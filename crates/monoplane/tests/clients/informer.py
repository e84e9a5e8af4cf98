"""The informer of the Python client over the ConfigMaps of a namespace. Words: kubeconfig, namespace. For each line on its
input it prints what it knows: the objects' values by name."""

import json
import sys

from kubernetes import client, config
from kubernetes.informer import SharedInformer

kubeconfig, namespace = sys.argv[1:]
config.load_kube_config(kubeconfig)
informer = SharedInformer(client.CoreV1Api().list_namespaced_config_map, namespace=namespace)
informer.start()
for _ in sys.stdin:
    known = {each.metadata.name: (each.data or {}).get("value", "") for each in informer.cache.list()}
    print(json.dumps(known), flush=True)
