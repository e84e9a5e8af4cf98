// An informer of @kubernetes/client-node over the ConfigMaps of a namespace. Words: kubeconfig, namespace, folder that holds
// node_modules. For each line on its input it prints what it knows: the objects' values by name.
import { createInterface } from 'node:readline';

const [kubeconfig, namespace, folder] = process.argv.slice(2);
const k8s = await import(`${folder}/node_modules/@kubernetes/client-node/dist/index.js`);

const config = new k8s.KubeConfig();
config.loadFromFile(kubeconfig);
const api = config.makeApiClient(k8s.CoreV1Api);
const list = () => api.listNamespacedConfigMap({ namespace });
const informer = k8s.makeInformer(config, `/api/v1/namespaces/${namespace}/configmaps`, list);

// As its documentation says to do.
informer.on('error', () => setTimeout(start, 200));
function start() {
  informer.start().catch(() => setTimeout(start, 200));
}
start();

createInterface({ input: process.stdin })
  .on('line', () => {
    const known = informer.list(namespace).map((object) => [object.metadata.name, object.data?.value ?? '']);
    console.log(JSON.stringify(Object.fromEntries(known)));
  })
  .on('close', () => process.exit(0));
