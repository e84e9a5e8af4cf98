//! Lifecycle hooks, and the handlers that they share with probes.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use api::k8s::api::core::v1::{Container, HTTPGetAction, LifecycleHandler, TCPSocketAction};
use api::k8s::apimachinery::pkg::util::intstr::IntOrString;
use bytes::Bytes;
use clock::Clock;
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use runtime::Runtime;
use tokio::net::TcpStream;

/// As much of an answer as is looked at.
const ANSWER_LIMIT: usize = 10 << 10;

/// One run of a container, as handlers reach it.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) runtime: Arc<dyn Runtime>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) container: Container,
    pub(crate) container_id: String,
    pub(crate) pod_ip: Option<IpAddr>,
    pub(crate) host_network: bool,
}

impl Target {
    fn port(&self, port: &IntOrString) -> Result<u16, String> {
        match port {
            IntOrString::Int(number) => {
                u16::try_from(*number).map_err(|_| format!("invalid port number: {number}"))
            }
            IntOrString::String(name) => {
                let ports = self.container.ports.iter().flatten();
                let found = ports.into_iter().find(|port| port.name.as_deref() == Some(name));
                let number = found.map(|port| port.container_port).or_else(|| name.parse().ok());
                let number = number.and_then(|number| u16::try_from(number).ok());
                number.ok_or_else(|| format!("couldn't find port: {name}"))
            }
        }
    }

    /// Where to connect to: the pod, or for a pod on the node's network the node's loopback. Anything else is refused:
    /// the node would otherwise reach, for whoever writes a pod, what that pod may not.
    fn host(&self, host: Option<&String>) -> Result<IpAddr, String> {
        let own = self.pod_ip.ok_or_else(|| "the pod has no address".to_owned())?;
        let Some(host) = host.filter(|host| !host.is_empty()) else { return Ok(own) };
        let named = if host == "localhost" { Ok(Ipv4Addr::LOCALHOST.into()) } else { host.parse::<IpAddr>() };
        match named {
            Ok(address) if address == own || (self.host_network && address.is_loopback()) => Ok(address),
            _ => Err(format!("host {host:?} is refused: only the pod itself may be asked")),
        }
    }

    /// Runs a command; its exit code and output.
    pub(crate) async fn exec(
        &self,
        command: Option<&Vec<String>>,
        timeout: Duration,
    ) -> Result<(i32, String), String> {
        let command = command.cloned().unwrap_or_default();
        let done = self.runtime.exec_sync(&self.container_id, command, timeout).await;
        let done = done.map_err(|error| error.to_string())?;
        let text = [done.stdout, done.stderr].concat();
        Ok((done.exit_code, String::from_utf8_lossy(&text[..text.len().min(ANSWER_LIMIT)]).into_owned()))
    }

    /// Connects.
    pub(crate) async fn tcp(&self, action: &TCPSocketAction) -> Result<(), String> {
        let (host, port) = (self.host(action.host.as_ref())?, self.port(&action.port)?);
        TcpStream::connect((host, port)).await.map(|_| ()).map_err(|error| error.to_string())
    }

    /// Asks; the status code and the beginning of the body.
    pub(crate) async fn get(&self, action: &HTTPGetAction) -> Result<(u16, String), String> {
        if action.scheme.as_deref().is_some_and(|scheme| scheme.eq_ignore_ascii_case("https")) {
            return Err("httpGet with scheme HTTPS is not supported on this node".to_owned());
        }
        let text = |error: &dyn std::fmt::Display| error.to_string();
        let (host, port) = (self.host(action.host.as_ref())?, self.port(&action.port)?);
        let stream = TcpStream::connect((host, port)).await.map_err(|error| text(&error))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| text(&error))?;
        let path = action.path.as_deref().filter(|path| !path.is_empty()).unwrap_or("/");
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        let mut request =
            http::Request::get(path).header("user-agent", "kube-probe/1.36").header("accept", "*/*");
        let headers = action.http_headers.iter().flatten();
        let mut named = false;
        for header in headers {
            named |= header.name.eq_ignore_ascii_case("host");
            request = request.header(&header.name, &header.value);
        }
        if !named {
            request = request.header("host", SocketAddr::new(host, port).to_string());
        }
        let request = request.body(Empty::<Bytes>::new()).map_err(|error| text(&error))?;
        let answer = async {
            let response = sender.send_request(request).await.map_err(|error| text(&error))?;
            let code = response.status().as_u16();
            let body = Limited::new(response.into_body(), ANSWER_LIMIT).collect().await;
            let body = body.map(|body| body.to_bytes()).unwrap_or_default();
            Ok((code, String::from_utf8_lossy(&body).into_owned()))
        };
        tokio::pin!(answer);
        tokio::select! {
            answer = &mut answer => answer,
            // The connection ends when the other side has said all; the answer may be there already.
            _ = connection => answer.await,
        }
    }

    /// Runs a lifecycle hook. The error says what went wrong.
    pub(crate) async fn run(&self, hook: &LifecycleHandler, timeout: Duration) -> Result<(), String> {
        let work = async {
            if let Some(exec) = &hook.exec {
                let (code, output) = self.exec(exec.command.as_ref(), timeout).await?;
                return if code == 0 { Ok(()) } else { Err(format!("command exited with {code}: {output}")) };
            }
            if let Some(action) = &hook.http_get {
                return self.get(action).await.map(|_| ());
            }
            if let Some(sleep) = &hook.sleep {
                self.clock.sleep(Duration::from_secs(u64::try_from(sleep.seconds).unwrap_or(0))).await;
            }
            Ok(())
        };
        tokio::select! {
            done = work => done,
            () = self.clock.sleep(timeout) => Err("it took too long".to_owned()),
        }
    }
}
