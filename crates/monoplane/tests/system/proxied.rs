//! Requests through the API server to pods, Services and nodes, as kubectl sends them.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Stdio};

use harness::{Plane, eventually, send};

use crate::containers::{IMAGE, plane_with_image};

/// A pod that serves a page at 8080, and at 9000 says 101 and then echoes; and its Service.
fn manifest() -> String {
    format!(
        r#"
apiVersion: v1
kind: Pod
metadata: {{name: web, labels: {{app: web}}}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: {IMAGE}
    imagePullPolicy: Never
    command: [/bin/busybox, sh, -c]
    args:
    - |
      mkdir -p /www/cgi-bin /bin
      echo '<a href="/x">x</a>' > /www/index.html
      printf '#!/bin/busybox sh\nprintf "content-type: text/plain\\n\\n$REQUEST_METHOD $QUERY_STRING "\ncat\n' > /www/cgi-bin/say
      cat > /echo <<'END'
      #!/bin/busybox sh
      while read -r line && test "$line" != "$(printf '\r')"; do :; done
      printf 'HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n'
      exec cat
      END
      chmod +x /echo /www/cgi-bin/say
      nc -ll -p 9000 -e /echo &
      exec httpd -f -p 8080 -h /www
    ports: [{{containerPort: 8080, name: web}}]
    readinessProbe: {{httpGet: {{port: 8080}}, periodSeconds: 1}}
---
apiVersion: v1
kind: Service
metadata: {{name: web}}
spec:
  selector: {{app: web}}
  ports: [{{name: http, port: 80, targetPort: web}}]
"#
    )
}

/// `kubectl proxy`, and where it listens.
struct Proxy(Child, String);

impl Proxy {
    fn start(plane: &Plane) -> Self {
        let mut proxy = plane.kubectl_command();
        let proxy = proxy.args(["proxy", "--port=0"]).stdout(Stdio::piped()).spawn();
        let mut proxy = proxy.expect("kubectl runs");
        let mut first = String::new();
        BufReader::new(proxy.stdout.take().expect("a pipe")).read_line(&mut first).expect("a line");
        let address = first.trim().rsplit(' ').next().expect("an address").to_owned();
        Self(proxy, address)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn kubectl_reaches_pods_services_and_nodes_through_the_server() {
    let Some(plane) = plane_with_image() else { return };
    plane.apply(&manifest());
    plane.kubectl_ok(&["wait", "--for=condition=Ready", "pod/web", "--timeout=60s"]);
    let namespace = "/api/v1/namespaces/default";
    let raw = |path: &str| plane.kubectl(&["get", "--raw", path]);
    let pod = format!("{namespace}/pods/web/proxy");
    let page = |of: &str| format!("<a href=\"{of}/x\">x</a>\n");
    assert_eq!(raw(&format!("{pod}/")).out, page(&pod));
    let service = format!("{namespace}/services/http:web:http/proxy");
    eventually("its endpoint is known", || (raw(&format!("{service}/")).out == page(&service)).then_some(()));
    let missing = raw(&format!("{pod}/nothing"));
    assert!(!missing.ok && missing.err.contains("NotFound"), "{missing:?}");
    let none = raw(&format!("{namespace}/services/web:other/proxy/"));
    assert!(none.err.contains("no endpoints available for service \"web:other\""), "{none:?}");
    assert_eq!(raw("/api/v1/nodes/test-node/proxy/healthz").out, "ok");
    assert!(raw("/api/v1/nodes/test-node/proxy/pods").out.contains("\"PodList\""));
    let refused = plane.kubectl(&["get", "--raw", &format!("{pod}/"), "--as", "nobody"]);
    assert!(refused.err.contains("cannot get resource \"pods/proxy\""), "{refused:?}");

    let proxy = Proxy::start(&plane);
    let ask = |method: &str, path: &str, body: &str| {
        send(&proxy.1, &proxy.1, method, path, &[], body).expect("an answer")
    };
    let said = ask("POST", &format!("{pod}/cgi-bin/say?a=b"), "hello");
    assert_eq!((said.status, said.body.as_str()), (200, "POST a=b hello"), "{}", said.head);
    let said = ask("GET", &service, "");
    assert_eq!((said.status, said.header("location")), (301, Some(format!("{service}/").as_str())));

    let mut stream = TcpStream::connect(&proxy.1).expect("a connection");
    let head = format!(
        "GET {namespace}/pods/web:9000/proxy/ HTTP/1.1\r\nhost: {}\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n",
        proxy.1
    );
    stream.write_all(head.as_bytes()).expect("it is sent");
    let mut reader = BufReader::new(stream.try_clone().expect("a handle"));
    let mut lines = String::new();
    while !lines.ends_with("\r\n\r\n") {
        assert_ne!(reader.read_line(&mut lines).expect("a line"), 0, "{lines}");
    }
    assert!(lines.starts_with("HTTP/1.1 101"), "{lines}");
    for word in ["one", "two"] {
        stream.write_all(word.as_bytes()).expect("it is sent");
        let mut back = [0; 3];
        reader.read_exact(&mut back).expect("it comes back");
        assert_eq!(back, word.as_bytes());
    }
}
