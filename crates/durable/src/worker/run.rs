//! One run of an invocation.

use std::future::Future;
use std::sync::Arc;

use clock::Clock;
use effects::{Invoker, Request};

use super::recorder::{JournalLimits, Recorder, unreadable};
use crate::engine::Outcome;
use crate::invocation::Invocation;
use crate::storage::Partition;

/// What a run needs.
#[derive(Clone)]
pub(super) struct Runner {
    pub(super) partition: Arc<Partition>,
    pub(super) invoker: Arc<dyn Invoker>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) limits: JournalLimits,
}

impl Runner {
    /// Runs an invocation to its end or next sleep. `request` is there for a new one.
    pub(super) fn run(
        &self,
        invocation: Invocation,
        request: Option<Box<Request>>,
    ) -> impl Future<Output = Outcome> + Send + 'static {
        let Runner { partition, invoker, clock, limits } = self.clone();
        async move {
            let recorder = Arc::new(Recorder::new(partition, clock, limits, &invocation, request.is_some()));
            let request = match request.map_or_else(|| recorder.request(), |request| Ok(*request)) {
                Ok(request) => request,
                Err(error) => return unreadable(&error),
            };
            let result = invoker.invoke(&invocation.component, request, recorder.clone()).await;
            recorder.conclude(result)
        }
    }
}
