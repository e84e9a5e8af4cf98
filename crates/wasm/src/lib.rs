//! The component host: runs WebAssembly components, a fresh pooled instance for each request or invocation.
//!
//! It owns the engine and its pools, the compiling of components in a limited child process, the authenticated cache of
//! compiled artifacts, the linking of host interfaces, the limits on guests, and the one choke point through which the
//! host calls of a durable component pass ([`effects::Recorder`]). It takes plain values and knows nothing of
//! Kubernetes, routes, journals or where a component came from. It opens no socket but through `egress`, and grants a
//! guest nothing that its [`ComponentSpec`] does not name.
//!
//! A component that is the program of a pod's container has a process to itself: see [`pod`].
//!
//! Begin with [`Host`]: [`Host::compile`] bytes to an [`Artifact`], [`Host::deploy`] it with a spec to a
//! [`Component`], and call [`Component::serve`] for each request. Durable invocations come in through
//! [`effects::Invoker`], which [`Host`] implements.

pub mod artifact;
mod body;
mod choke;
mod class;
mod compile;
mod component;
mod config;
mod engine;
mod gate;
mod guest;
mod hold;
mod host;
mod interfaces;
mod invoke;
mod limiter;
mod link;
mod logs;
mod outgoing;
pub mod pod;
mod run;
mod serve;
mod surroundings;
mod ticker;

pub use artifact::{Artifact, ArtifactCache, CacheError, MacKey};
pub use body::{Body, BodyError};
pub use compile::{CompileError, CompileLimits, Compiler, compile_child_main};
pub use component::{AllowedHost, Component, ComponentSpec, DeployError, Limits};
pub use config::{Config, Pool};
pub use engine::EngineError;
pub use host::{Binary, Host};
pub use logs::{LogSink, LogStream, TracingLogs};
pub use serve::ServeError;
pub use surroundings::{Directory, Surroundings};
