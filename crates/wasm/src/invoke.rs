//! Durable invocations.

use std::sync::Arc;

use async_trait::async_trait;
use effects::{InvokeError, Invoker, Recorder, Reply, Request};
use http::{HeaderValue, header};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};

use crate::component::Component;
use crate::hold::Hold;
use crate::host::Host;
use crate::run::{Ending, Run};
use crate::serve::respond;

#[async_trait]
impl Invoker for Host {
    async fn invoke(
        &self,
        component: &str,
        request: Request,
        recorder: Arc<dyn Recorder>,
    ) -> Result<Reply, InvokeError> {
        let found = self.deployed(component).ok_or_else(|| InvokeError::NotReady(component.to_owned()))?;
        if !found.spec.durable {
            // The same bytes deployed for requests; the durable ones may come yet.
            return Err(InvokeError::NotReady(format!("{component} as a durable one")));
        }
        found.invoke(request, recorder).await
    }

    fn concurrency(&self, component: &str) -> Option<u32> {
        let found = self.deployed(component)?;
        Some(found.host.places(&found.spec.limits))
    }
}

impl Component {
    async fn invoke(
        self: &Arc<Self>,
        mut request: Request,
        recorder: Arc<dyn Recorder>,
    ) -> Result<Reply, InvokeError> {
        let limits = &self.spec.limits;
        if request.body().len() as u64 > limits.request_body {
            return Err(InvokeError::LimitExceeded { limit: "body size" });
        }
        if request.uri().authority().is_none() && !request.headers().contains_key(header::HOST) {
            // A replay may come from a journal that kept no host; the guest's interface wants one.
            request.headers_mut().insert(header::HOST, HeaderValue::from_static("localhost"));
        }
        let busy = || InvokeError::Busy(self.revision.clone());
        let places = self.enter().await.ok_or_else(busy)?;
        let hold = Arc::new(Hold::new(recorder, self.host.logs.clone()));
        let method = request.method().clone();
        let (run, answer) = Run::new(self.clone(), request.map(Full::new), Some(hold), places);
        let (parts, mut body) = respond(self, &method, run, answer).await.map_err(no_answer)?.into_parts();
        let limit = usize::try_from(limits.buffered_body).unwrap_or(usize::MAX);
        let collected = match Limited::new(&mut body, limit).collect().await {
            Err(error) if error.is::<LengthLimitError>() => {
                return Err(InvokeError::LimitExceeded { limit: "body size" });
            }
            collected => collected,
        };
        // The reply counts when the guest has come to its end. If the body broke off, how it ended says why.
        body.finish().await.map_err(|ending| no_answer(Some(ending)))?;
        let body = collected.map_err(|error| InvokeError::Failed(error.to_string()))?.to_bytes();
        Ok(Reply::from_parts(parts, body))
    }
}

fn no_answer(ending: Option<Ending>) -> InvokeError {
    match ending {
        Some(Ending::Halted(halt)) => InvokeError::Halted(halt),
        Some(Ending::Limit(limit)) => InvokeError::LimitExceeded { limit },
        Some(Ending::Busy) => InvokeError::Busy("no instance is free".into()),
        Some(Ending::Failed(reason)) => InvokeError::Failed(reason),
        None => InvokeError::Failed("it gave no response".into()),
    }
}
