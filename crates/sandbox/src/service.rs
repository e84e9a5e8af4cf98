//! The runtime seam, call by call.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use nix::sys::signal::Signal;
use runtime::{
    Connection, ContainerConfig, ContainerState, ContainerStats, ContainerStatus, DiskUsage, Error,
    ExecOutput, Image, RegistryAuth, Resources, Runtime, RuntimeEvent, SandboxConfig, SandboxStatus, Session,
    StreamOptions,
};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;
use tokio::time::timeout;
use tokio_util::compat::TokioAsyncReadCompatExt;

use crate::files::SandboxFiles;
use crate::image::describe;
use crate::manager::{Containers, blocking, failed, new_id, now};
use crate::prepare::{Images, prepare};
use crate::protocol::{Call, Reply};
use crate::sandbox::Sandbox;
use crate::streams;

/// How long a killed container may take to be gone: the kernel's time, not the program's.
const KILLED: Duration = Duration::from_secs(20);
/// Most that is kept of each output of a command.
const MAX_OUTPUT: usize = 16 << 20;
/// How long the outputs of a command that has ended may stay open, held by what it left running.
const DRAIN: Duration = Duration::from_secs(2);

#[async_trait]
impl Runtime for Containers {
    fn name(&self) -> &str {
        &self.inner.config.name
    }

    fn handlers(&self) -> Vec<String> {
        self.inner.config.handlers.keys().cloned().collect()
    }

    async fn run_sandbox(&self, config: SandboxConfig) -> Result<String, Error> {
        check_group(&config.cgroup_parent)?;
        if !config.handler.is_empty() && !self.inner.config.handlers.contains_key(&config.handler) {
            return Err(Error::Invalid(format!("no handler {:?} is configured", config.handler)));
        }
        // Finished even if the caller goes away, so that nothing half-made is forgotten.
        let inner = Arc::clone(&self.inner);
        joined(tokio::spawn(async move { inner.run(config).await })).await
    }

    async fn stop_sandbox(&self, id: &str) -> Result<(), Error> {
        match self.inner.sandbox(id) {
            Ok(sandbox) => {
                let inner = Arc::clone(&self.inner);
                joined(tokio::spawn(async move { inner.stop(&sandbox).await })).await
            }
            Err(_) => Ok(()),
        }
    }

    async fn remove_sandbox(&self, id: &str) -> Result<(), Error> {
        match self.inner.sandbox(id) {
            Ok(sandbox) => {
                let inner = Arc::clone(&self.inner);
                joined(tokio::spawn(async move { inner.remove(&sandbox).await })).await
            }
            Err(_) => Ok(()),
        }
    }

    async fn sandbox_status(&self, id: &str) -> Result<SandboxStatus, Error> {
        Ok(self.inner.sandbox(id)?.status())
    }

    async fn list_sandboxes(&self) -> Result<Vec<SandboxStatus>, Error> {
        Ok(self.inner.all().iter().map(|sandbox| sandbox.status()).collect())
    }

    async fn create_container(&self, sandbox_id: &str, config: ContainerConfig) -> Result<String, Error> {
        let sandbox = self.inner.sandbox(sandbox_id)?;
        if !sandbox.is_ready() {
            return Err(Error::Failed(format!("sandbox {sandbox_id} is not ready")));
        }
        let this = self.clone();
        joined(tokio::spawn(async move { this.create(&sandbox, config).await })).await
    }

    async fn start_container(&self, id: &str) -> Result<(), Error> {
        let (sandbox, _) = self.inner.sandbox_of(id)?;
        let call = Call::Start { container: id.to_owned() };
        match sandbox.call(call).await? {
            Reply::Container(record) => {
                sandbox.update(record);
                Ok(())
            }
            Reply::Error(why) => Err(Error::Start(why)),
            reply => Err(refused(reply, id)),
        }
    }

    async fn stop_container(&self, id: &str, patience: Duration) -> Result<(), Error> {
        let Ok((sandbox, file)) = self.inner.sandbox_of(id) else { return Ok(()) };
        let started = match sandbox.container_status(id).map(|status| status.state) {
            Some(ContainerState::Running) => true,
            Some(ContainerState::Created) => false,
            _ => return Ok(()),
        };
        if started && !patience.is_zero() {
            self.signal(&sandbox, id, file.stop_signal).await?;
            if timeout(patience, sandbox.ended(id)).await.is_ok() {
                return Ok(());
            }
        }
        self.signal(&sandbox, id, Signal::SIGKILL as i32).await?;
        let late = |_| Error::Timeout(format!("container {id} was killed and is not gone after {KILLED:?}"));
        timeout(KILLED, sandbox.ended(id)).await.map_err(late)
    }

    async fn remove_container(&self, id: &str) -> Result<(), Error> {
        let Ok((sandbox, _)) = self.inner.sandbox_of(id) else { return Ok(()) };
        self.stop_container(id, Duration::ZERO).await?;
        let (of, container) = (sandbox.files.clone(), id.to_owned());
        let files = blocking(move || of.remove_container(&container).map_err(failed(&"container directory")));
        let told = async {
            if !sandbox.is_ready() {
                return Ok(());
            }
            match sandbox.call(Call::Delete { container: id.to_owned() }).await? {
                Reply::Done | Reply::NotFound => Ok(()),
                reply => Err(refused(reply, id)),
            }
        };
        // It has ended: neither needs the other.
        let (removed, told) = tokio::join!(files, told);
        told.and(removed)?;
        sandbox.forget(id);
        Ok(())
    }

    async fn container_status(&self, id: &str) -> Result<ContainerStatus, Error> {
        let (sandbox, _) = self.inner.sandbox_of(id)?;
        sandbox.container_status(id).ok_or_else(|| not_found(id))
    }

    async fn list_containers(&self) -> Result<Vec<ContainerStatus>, Error> {
        Ok(self.inner.all().iter().flat_map(|sandbox| sandbox.container_statuses()).collect())
    }

    async fn update_sandbox(&self, id: &str, resources: Resources) -> Result<(), Error> {
        let sandbox = self.inner.sandbox(id)?;
        let tree = self.inner.tree.clone();
        let group = sandbox.record.config.cgroup_parent.clone();
        blocking(move || tree.update(&group, &resources).map_err(failed(&"pod's control group"))).await
    }

    async fn update_container(&self, id: &str, resources: Resources) -> Result<(), Error> {
        let (sandbox, _) = self.inner.sandbox_of(id)?;
        let (tree, id) = (self.inner.tree.clone(), id.to_owned());
        blocking(move || {
            tree.update(&sandbox.group(&id), &resources).map_err(failed(&"control group"))?;
            sandbox.resized(&id, &resources).map_err(failed(&"container directory"))
        })
        .await
    }

    async fn exec_sync(&self, id: &str, command: Vec<String>, limit: Duration) -> Result<ExecOutput, Error> {
        let (sandbox, _) = self.inner.sandbox_of(id)?;
        if command.is_empty() {
            return Err(Error::Invalid("exec: no command".to_owned()));
        }
        // Hanging up, which leaving this function does, ends the command.
        let late = |_| Error::Timeout(format!("command {:?} ran longer than {limit:?}", command.join(" ")));
        timeout(limit, exec(&sandbox, id, command.clone())).await.map_err(late)?
    }

    async fn exec(&self, id: &str, command: Vec<String>, options: StreamOptions) -> Result<Session, Error> {
        let (sandbox, _) = self.inner.sandbox_of(id)?;
        if command.is_empty() {
            return Err(Error::Invalid("exec: no command".to_owned()));
        }
        streams::exec(&sandbox, id, command, options).await
    }

    async fn attach(&self, id: &str, options: StreamOptions) -> Result<Session, Error> {
        let (sandbox, file) = self.inner.sandbox_of(id)?;
        streams::attach(&sandbox, id, file.config.tty, options).await
    }

    async fn port_forward(&self, sandbox_id: &str, port: u16) -> Result<Box<dyn Connection>, Error> {
        let sandbox = self.inner.sandbox(sandbox_id)?;
        Ok(Box::new(streams::connect(&sandbox, port).await?.compat()))
    }

    async fn container_stats(&self, id: &str) -> Result<ContainerStats, Error> {
        let (sandbox, _) = self.inner.sandbox_of(id)?;
        let (tree, group) = (self.inner.tree.clone(), sandbox.group(id));
        let usage = blocking(move || tree.usage(&group).map_err(failed(&"control group"))).await?;
        Ok(ContainerStats {
            timestamp: now(),
            cpu_nanoseconds: usage.cpu_nanoseconds,
            memory_working_set: usage.memory_working_set,
            pids: usage.pids,
        })
    }

    async fn container_disk(&self, id: &str) -> Result<DiskUsage, Error> {
        let (sandbox, file) = self.inner.sandbox_of(id)?;
        let layer = file.writable.upper(&sandbox.files.container(id));
        let used = blocking(move || images::tree_usage(&layer).map_err(failed(&"writable layer"))).await?;
        Ok(DiskUsage { bytes: used.bytes, inodes: used.inodes })
    }

    async fn reopen_log(&self, id: &str) -> Result<(), Error> {
        let (sandbox, _) = self.inner.sandbox_of(id)?;
        match sandbox.call(Call::ReopenLog { container: id.to_owned() }).await? {
            Reply::Done => Ok(()),
            reply => Err(refused(reply, id)),
        }
    }

    async fn next_event(&self) -> Result<RuntimeEvent, Error> {
        Ok(self.inner.next_event().await)
    }

    async fn image_status(&self, image: &str) -> Result<Option<Image>, Error> {
        Ok(self.image(image).await?.map(|image| describe(&image)))
    }

    async fn list_images(&self) -> Result<Vec<Image>, Error> {
        self.images().await
    }

    async fn pull_image(&self, image: &str, auth: Option<&RegistryAuth>) -> Result<String, Error> {
        self.pull(image, auth).await
    }

    async fn remove_image(&self, image: &str) -> Result<(), Error> {
        self.forget_image(image).await
    }

    fn image_directory(&self) -> Option<PathBuf> {
        Some(self.inner.images.root().to_owned())
    }
}

impl Containers {
    async fn create(&self, sandbox: &Arc<Sandbox>, config: ContainerConfig) -> Result<String, Error> {
        let missing = || Error::NotFound { kind: "image", id: config.image.clone() };
        let image = self.image(&config.image).await?.ok_or_else(missing)?;
        let mut mounted = Vec::new();
        for mount in config.mounts.iter().filter(|mount| !mount.image.is_empty()) {
            let missing = || Error::NotFound { kind: "image", id: mount.image.clone() };
            mounted.push(self.image(&mount.image).await?.ok_or_else(missing)?);
        }
        let skeleton = crate::skeleton::directory(&self.inner.config.state_dir);
        let images = Images { own: image, skeleton, mounted };
        let id = new_id()?;
        let files = sandbox.files.clone();
        let (store, tree) = (Arc::clone(&self.inner.images), self.inner.tree.clone());
        let (of, name) = (Arc::clone(sandbox), id.clone());
        let workload = self.inner.config.handlers.get(&sandbox.record.config.handler).cloned().flatten();
        if images.own.is_wasm() && workload.is_none() {
            return Err(Error::Failed(self.needs_workload(&config.image)));
        }
        let prepare = move || prepare(&of, &name, config, workload, &images, &store, &tree);
        let file = blocking(prepare).await?;
        sandbox.add(file);
        let reply = sandbox.call(Call::Create { container: id.clone() }).await;
        let error = match reply {
            Ok(Reply::Container(record)) => {
                sandbox.update(record);
                return Ok(id);
            }
            Ok(Reply::Error(why)) => Error::Start(why),
            Ok(reply) => refused(reply, &id),
            Err(error) => error,
        };
        sandbox.forget(&id);
        let container = id.clone();
        let removed =
            blocking(move || files.remove_container(&container).map_err(failed(&"container directory")));
        if let Err(error) = removed.await {
            tracing::warn!(container = id, %error, "what is left of a container that could not be made stays");
        }
        Err(error)
    }

    /// Why an image that is a WebAssembly program is not run as one that the kernel executes.
    fn needs_workload(&self, image: &str) -> String {
        let handlers = &self.inner.config.handlers;
        let able: Vec<String> = handlers
            .iter()
            .filter(|(_, workload)| workload.is_some())
            .map(|(name, _)| format!("runtimeClassName: {name}"))
            .collect();
        format!(
            "image \"{image}\" is a WebAssembly program, which this pod's runtime handler cannot run: give the pod {}",
            able.join(" or ")
        )
    }

    async fn signal(&self, sandbox: &Sandbox, id: &str, signal: i32) -> Result<(), Error> {
        let call = Call::Kill { container: id.to_owned(), signal };
        match sandbox.call(call).await? {
            Reply::Done | Reply::NotFound => Ok(()),
            reply => Err(refused(reply, id)),
        }
    }
}

async fn exec(sandbox: &Sandbox, id: &str, command: Vec<String>) -> Result<ExecOutput, Error> {
    let broken = |error: io::Error| Error::Failed(format!("exec: {error}"));
    let pipe = || rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(io::Error::from);
    let null = fs::File::open("/dev/null").map_err(broken)?;
    let (output, output_writer) = pipe().map_err(broken)?;
    let (errors, errors_writer) = pipe().map_err(broken)?;
    let call = Call::Exec { container: id.to_owned(), command };
    let fds = [null.as_fd(), output_writer.as_fd(), errors_writer.as_fd()];
    let mut link = sandbox.open_link(call, &fds).await.map_err(broken)?;
    drop((output_writer, errors_writer));
    let output = Receiver::from_owned_fd(output).map_err(broken)?;
    let errors = Receiver::from_owned_fd(errors).map_err(broken)?;
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    // Both at once: a command whose output nobody reads would wait for ever.
    let reply = {
        let outputs = async { tokio::join!(collect(output, &mut stdout), collect(errors, &mut stderr)) };
        let mut outputs = std::pin::pin!(outputs);
        let mut reply = std::pin::pin!(link.next());
        let mut open = true;
        let reply = loop {
            tokio::select! {
                reply = &mut reply => break reply.map_err(broken)?,
                _ = &mut outputs, if open => open = false,
            }
        };
        if open {
            let _ = timeout(DRAIN, outputs.as_mut()).await;
        }
        reply
    };
    match reply {
        Reply::Exited(exit_code) => {
            Ok(ExecOutput { stdout: Bytes::from(stdout), stderr: Bytes::from(stderr), exit_code })
        }
        reply => Err(refused(reply, id)),
    }
}

/// Reads to the end, and keeps the first part.
async fn collect(mut from: Receiver, kept: &mut Vec<u8>) {
    let mut buffer = vec![0; 16 << 10];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        let room = MAX_OUTPUT.saturating_sub(kept.len());
        kept.extend_from_slice(&buffer[..count.min(room)]);
    }
}

/// The pod's host name and name resolution; each may be replaced by a mount of the caller's, who also knows best what
/// `/etc/hosts` says.
pub(crate) fn write_etc(files: &SandboxFiles, config: &SandboxConfig) -> io::Result<()> {
    fs::write(files.0.join("hostname"), format!("{}\n", config.hostname))?;
    let dns = &config.dns;
    let mut text: String = dns.servers.iter().map(|server| format!("nameserver {server}\n")).collect();
    for (word, values) in [("search", &dns.searches), ("options", &dns.options)] {
        if !values.is_empty() {
            text.push_str(&format!("{word} {}\n", values.join(" ")));
        }
    }
    if text.is_empty() {
        text = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    }
    fs::write(files.0.join("resolv.conf"), text)
}

fn not_found(container: &str) -> Error {
    Error::NotFound { kind: "container", id: container.to_owned() }
}

fn cannot(container: &str) -> Error {
    Error::Unsupported(format!(
        "container {container}: its pod's shim is of an earlier release and cannot do this; start the pod anew"
    ))
}

pub(crate) fn refused(reply: Reply, container: &str) -> Error {
    match reply {
        Reply::NotFound => not_found(container),
        Reply::Unsupported => cannot(container),
        // So the first release says that there is no such call.
        Reply::Error(why) if why.starts_with("bad request: unknown variant") => cannot(container),
        Reply::Error(why) => Error::Failed(why),
        other => Error::Failed(format!("an answer that does not fit: {other:?}")),
    }
}

async fn joined<T>(task: tokio::task::JoinHandle<Result<T, Error>>) -> Result<T, Error> {
    task.await.unwrap_or_else(|error| Err(Error::Failed(format!("a task ended badly: {error}"))))
}

/// A control group that stays below the hierarchy's root.
fn check_group(group: &str) -> Result<(), Error> {
    let parts = group.trim_matches('/');
    let fine = !parts.is_empty() && parts.split('/').all(|part| !matches!(part, "" | "." | ".."));
    match fine {
        true => Ok(()),
        false => {
            Err(Error::Invalid(format!("cgroup_parent: {group:?} is no path below the hierarchy's root")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_groups_stay_below_the_root() {
        assert!(check_group("monoplane/pod1").is_ok());
        for bad in ["", "/", "a/../b", "a//b", ".."] {
            assert!(check_group(bad).is_err(), "{bad}");
        }
    }
}
