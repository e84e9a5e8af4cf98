//! The API seam of every role: how the kubelet, the controllers, the scheduler, the gateway and the command line reach
//! the API server, and how they keep a view of what it holds.
//!
//! Owns: transports ([`transport`]: HTTPS from a kubeconfig, or a handler called in memory), [`Informer`]s with their
//! indexed [`Store`]s, the [`WorkQueue`], leader election over a Lease ([`election`]), the [`EventRecorder`], discovery of
//! what a server serves ([`discovery`]) and the retry of conflicting writes ([`write`]).
//!
//! Never does: know what a kind means, read the environment, hold a bypass. A [`Client`] is `kube`'s: whoever holds one is
//! just another user of the API, whatever carries the bytes, and works the same against an upstream API server.
//!
//! Begin with [`transport::in_memory`] and [`Informers`]: a role builds one client, asks [`Informers`] for the kinds that it
//! watches (several users of a kind share one watch and one store), hangs a queue on their changes and waits for `ready`.

mod ambient;
pub mod backoff;
pub mod discovery;
pub mod election;
mod events;
mod informer;
mod key;
mod message;
mod queue;
mod reader;
pub mod reflector;
mod servers;
mod sharing;
mod store;
pub mod transport;
pub mod write;

pub use ambient::Ambient;
pub use backoff::Backoff;
pub use events::{EventRecorder, EventType};
pub use informer::{Change, Informer, InformerOptions, Informers, Trim};
pub use key::ObjectKey;
pub use message::message;
pub use queue::{WorkQueue, Working};
pub use reader::Reader;
pub use servers::Servers;
pub use sharing::Sharing;
pub use store::{Index, Store, by_controller_uid, by_label, by_namespace};

pub use kube;
pub use kube::api::{
    ApiResource, DeleteParams, DynamicObject, ListParams, ObjectMeta, PartialObjectMeta, Patch, PatchParams,
    PostParams, Preconditions, PropagationPolicy, TypeMeta, WatchEvent, WatchParams,
};
pub use kube::client::Body;
pub use kube::{Api, Client, Error, Resource, ResourceExt};
