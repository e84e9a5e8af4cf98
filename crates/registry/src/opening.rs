//! Opening a registry: built-in kinds, the cache, the loop over custom ones.

use std::sync::Arc;

use apimachinery::status::Status;
use arc_swap::ArcSwap;
use clock::Tasks;
use store::Store;
use tokio::sync::{mpsc, watch};

use crate::builtin::builtin_kinds;
use crate::cache::{Applied, Feed, Pending};
use crate::custom::CustomKinds;
use crate::race::Lines;
use crate::ranges::{Objects, Ranges};
use crate::write::unavailable;
use crate::{Kinds, Options, Registry};

/// Commands that may wait for the feed.
const COMMANDS: usize = 64;

pub(crate) async fn open(store: Arc<dyn Store>, options: Options) -> Result<Arc<Registry>, Status> {
    let ranges = Ranges::new(&options.service_cidr, options.node_ports, options.random.clone())?;
    let kinds = builtin_kinds(options.limits, &ranges.families());
    let (applied, pending) = (Arc::new(Applied::default()), Arc::new(Pending::default()));
    // Everything that happens from here on comes as an event; loading later than this shows more, never less.
    let head = store.head().await.map_err(unavailable)?;
    let mut feed = Feed::new(store.clone(), options.clock.clone(), applied.clone(), pending.clone());
    for kind in kinds.iter().filter(|kind| kind.slot == 0) {
        feed.add(kind.resource.clone()).await.map_err(unavailable)?;
    }
    applied.advance(head);
    let (commands, inbox) = mpsc::channel(COMMANDS);
    let tasks = Tasks::default();
    tasks.spawn_graceful("registry feed", {
        let token = tasks.token().clone();
        async move { feed.run(head, inbox, token).await }
    });
    let resource = |plural: &str| {
        let found = kinds.iter().find(|kind| kind.group == "networking.k8s.io" && kind.plural == plural);
        found.map(|kind| kind.resource.clone())
    };
    let ranges = match (resource("servicecidrs"), resource("ipaddresses")) {
        (Some(cidrs), Some(addresses)) => ranges.named_by(Objects { cidrs, addresses }),
        _ => ranges,
    };
    let registry = Arc::new(Registry {
        store,
        kinds: ArcSwap::from_pointee(Kinds::new(1, kinds)),
        kinds_changed: watch::Sender::new(1),
        applied,
        pending,
        feed: commands,
        ranges,
        lines: Lines::default(),
        tasks,
        options,
    });
    let mut custom = CustomKinds::new(&registry);
    custom.sync_all().await;
    registry.tasks.spawn("custom resource definitions", custom.run());
    if let Err(status) = registry.adopt_addresses().await {
        tracing::warn!(%status, "addresses of Services are not all recorded; trying again later");
    }
    registry.tasks.spawn("addresses of Services", crate::addresses::run(Arc::downgrade(&registry)));
    registry.tasks.spawn("expired objects", crate::expiry::run(Arc::downgrade(&registry)));
    Ok(registry)
}
