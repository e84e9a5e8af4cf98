//! What probes and lifecycle hooks have in common: the ways to ask a container. A file a way.

mod connect;
mod grpc;
mod http;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use api::k8s::api::core::v1::{Container, LifecycleHandler};
use api::k8s::apimachinery::pkg::util::intstr::IntOrString;
use clock::Clock;
use runtime::Runtime;

/// As much of an answer as is looked at.
const ANSWER_LIMIT: usize = 10 << 10;

/// Why there is no good answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Trouble {
    /// It was asked, and this came of it.
    #[error("{0}")]
    Failed(String),
    /// It cannot be asked from here, which says nothing of how it fares.
    #[error("{0}")]
    CannotAsk(String),
}

fn failed(error: impl std::fmt::Display) -> Trouble {
    Trouble::Failed(error.to_string())
}

/// One run of a container, as handlers reach it.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) runtime: Arc<dyn Runtime>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) connector: egress::Connector,
    pub(crate) container: Container,
    pub(crate) container_id: String,
    pub(crate) pod_ip: Option<IpAddr>,
    pub(crate) host_network: bool,
}

impl Target {
    fn port(&self, port: &IntOrString) -> Result<u16, Trouble> {
        match port {
            IntOrString::Int(number) => {
                u16::try_from(*number).map_err(|_| failed(format!("invalid port number: {number}")))
            }
            IntOrString::String(name) => {
                let ports = self.container.ports.iter().flatten();
                let found = ports.into_iter().find(|port| port.name.as_deref() == Some(name));
                let number = found.map(|port| port.container_port).or_else(|| name.parse().ok());
                let number = number.and_then(|number| u16::try_from(number).ok());
                number.ok_or_else(|| failed(format!("couldn't find port: {name}")))
            }
        }
    }

    /// Runs a command; its exit code and output.
    pub(crate) async fn exec(
        &self,
        command: Option<&Vec<String>>,
        timeout: Duration,
    ) -> Result<(i32, String), Trouble> {
        let command = command.cloned().unwrap_or_default();
        let done = self.runtime.exec_sync(&self.container_id, command, timeout).await.map_err(failed)?;
        let text = [done.stdout, done.stderr].concat();
        Ok((done.exit_code, String::from_utf8_lossy(&text[..text.len().min(ANSWER_LIMIT)]).into_owned()))
    }

    /// Runs a lifecycle hook. The error says what went wrong.
    pub(crate) async fn run(&self, hook: &LifecycleHandler, timeout: Duration) -> Result<(), String> {
        let LifecycleHandler { exec, http_get, sleep, tcp_socket } = hook;
        let work = async {
            if let Some(exec) = exec {
                let done = self.exec(exec.command.as_ref(), timeout).await;
                let (code, output) = done.map_err(|error| error.to_string())?;
                return if code == 0 { Ok(()) } else { Err(format!("command exited with {code}: {output}")) };
            }
            if let Some(action) = http_get {
                return self.get(action).await.map(drop).map_err(|error| error.to_string());
            }
            if let Some(sleep) = sleep {
                self.clock.sleep(Duration::from_secs(u64::try_from(sleep.seconds).unwrap_or(0))).await;
            }
            if tcp_socket.is_some() {
                // Upstream takes it, and has never run it: such a hook fails.
                return Err("invalid handler: tcpSocket".to_owned());
            }
            Ok(())
        };
        tokio::select! {
            done = work => done,
            () = self.clock.sleep(timeout) => Err("it took too long".to_owned()),
        }
    }
}
