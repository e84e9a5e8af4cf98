//! The servers of one plane, any of which does: a connection goes to the one that took the last, or to the next that takes
//! one.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use http::Uri;
use tower::{BoxError, Service, ServiceExt};

/// How long a server may take for a connection with its TLS before another is tried.
const PATIENCE: Duration = Duration::from_secs(5);

/// Servers, each as `https://HOST:PORT`. A handle: clones share.
#[derive(Clone, Debug)]
pub struct Servers(Arc<Mutex<Vec<Uri>>>);

impl Servers {
    /// These, the first of which is asked first.
    pub fn new(servers: Vec<Uri>) -> Self {
        Self(Arc::new(Mutex::new(servers)))
    }

    /// Knows these from now on. The one that is in use goes on being asked first, if it is among them.
    pub fn replace(&self, mut servers: Vec<Uri>) {
        let mut known = self.lock();
        let at = known.first().and_then(|first| servers.iter().position(|server| server == first));
        servers.rotate_left(at.unwrap_or_default());
        *known = servers;
    }

    /// All, in the order in which they are asked.
    pub fn all(&self) -> Vec<Uri> {
        self.lock().clone()
    }

    /// Asks this one first from now on, and those behind it next.
    fn prefer(&self, server: &Uri) {
        let mut known = self.lock();
        if let Some(at) = known.iter().position(|one| one == server) {
            known.rotate_left(at);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Uri>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Connects to whichever takes a connection. `each` connects to one, and makes sure by its name that it is the one meant.
#[derive(Clone)]
pub(crate) struct Connector<C> {
    pub(crate) servers: Servers,
    pub(crate) each: C,
}

impl<C> Service<Uri> for Connector<C>
where
    C: Service<Uri> + Clone + Send + 'static,
    C::Response: Send,
    C::Error: Into<BoxError>,
    C::Future: Send,
{
    type Response = C::Response;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<C::Response, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let Self { servers, each } = self.clone();
        Box::pin(async move {
            let mut failed: BoxError = "no server is known".into();
            for server in servers.all() {
                let connecting = each.clone().oneshot(server.clone());
                failed = match tokio::time::timeout(PATIENCE, connecting).await {
                    Ok(Ok(connected)) => {
                        servers.prefer(&server);
                        return Ok(connected);
                    }
                    Ok(Err(error)) => error.into(),
                    Err(_) => format!("{server} does not answer within {PATIENCE:?}").into(),
                };
                tracing::debug!(%server, %failed, "the server takes no connection");
            }
            Err(failed)
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use tower::service_fn;

    use super::*;

    fn uris(names: &[&str]) -> Vec<Uri> {
        names.iter().map(|name| format!("https://{name}:6443").parse().unwrap()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn who_took_the_last_is_asked_first_and_the_next_when_it_does_not() {
        let servers = Servers::new(uris(&["a", "b", "c"]));
        let down: Arc<Mutex<Vec<Uri>>> = Arc::default();
        let refused = down.clone();
        let each = service_fn(move |server: Uri| {
            let is_down = refused.lock().unwrap().contains(&server);
            async move {
                match (is_down, server.host()) {
                    (true, Some("b")) => std::future::pending().await,
                    (true, _) => Err(BoxError::from("refused")),
                    (false, _) => Ok(server),
                }
            }
        });
        let connector = Connector { servers: servers.clone(), each };
        let connected = async || connector.clone().oneshot(Uri::default()).await;
        assert_eq!(connected().await.unwrap().host(), Some("a"));
        *down.lock().unwrap() = uris(&["a", "b"]);
        assert_eq!(connected().await.unwrap().host(), Some("c"), "one refuses, and one is silent");
        *down.lock().unwrap() = uris(&[]);
        assert_eq!(connected().await.unwrap().host(), Some("c"), "it is not left while it serves");
        servers.replace(uris(&["b", "c", "d"]));
        assert_eq!(servers.all(), uris(&["c", "d", "b"]));
        servers.replace(uris(&["a", "b"]));
        *down.lock().unwrap() = uris(&["a", "b"]);
        assert!(connected().await.unwrap_err().to_string().contains("https://b:6443/ does not answer"));
    }
}
