//! Asks every node what it uses, again and again.

use std::sync::Arc;
use std::time::Duration;

use client::{Api, Body, Error, ListParams, message};
use futures::{StreamExt, stream};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Limited};
use k8s_openapi::api::core::v1::Node;

use crate::Metrics;
use crate::reading::Reading;

/// How often, as upstream's.
const PERIOD: Duration = Duration::from_secs(15);
/// Sooner, while a node has been heard once only: a rate takes two.
const SOON: Duration = Duration::from_secs(5);
/// Nodes that are asked at one time.
const TOGETHER: usize = 16;
/// How long one may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes that one may say.
const LIMIT: usize = 16 << 20;

/// Why a node has not been heard.
#[derive(Debug, thiserror::Error)]
enum Unheard {
    #[error("{}", message(.0))]
    Client(#[from] Error),
    #[error("its answer is {0}")]
    Refused(StatusCode),
    #[error("its answer broke off: {0}")]
    Broken(Box<dyn std::error::Error + Send + Sync>),
    #[error("no answer within {} seconds", PATIENCE.as_secs())]
    Late,
}

/// Scrapes for ever.
pub(crate) async fn run(metrics: Arc<Metrics>) {
    loop {
        match names(&metrics).await {
            Ok(nodes) => {
                let heard = stream::iter(nodes).map(|node| scrape(&metrics, node)).buffer_unordered(TOGETHER);
                let round = heard.filter_map(std::future::ready).collect().await;
                metrics.store().take(round);
            }
            Err(error) => tracing::info!(error = message(&error), "the nodes to scrape cannot be listed"),
        }
        let pause = if metrics.store().is_young() { SOON } else { PERIOD };
        metrics.ambient.clock.sleep(pause).await;
    }
}

async fn names(metrics: &Metrics) -> Result<Vec<String>, Error> {
    let nodes: Api<Node> = Api::all(metrics.client.clone());
    // What the server has at hand is good enough.
    let list = nodes.list_metadata(&ListParams::default().match_any()).await?;
    Ok(list.items.into_iter().filter_map(|node| node.metadata.name).collect())
}

/// What a node says, if it does.
async fn scrape(metrics: &Metrics, node: String) -> Option<(String, Reading)> {
    let heard = within(metrics, ask(metrics, &node)).await;
    match heard {
        Ok(text) => {
            let reading = Reading::parse(&text, metrics.ambient.clock.now());
            Some((node, reading))
        }
        Err(error) => {
            tracing::info!(node, %error, "a node cannot be scraped");
            None
        }
    }
}

async fn within(
    metrics: &Metrics,
    asked: impl Future<Output = Result<String, Unheard>>,
) -> Result<String, Unheard> {
    let asked = std::pin::pin!(asked);
    let late = metrics.ambient.clock.sleep(PATIENCE);
    match futures::future::select(asked, late).await {
        futures::future::Either::Left((heard, _)) => heard,
        futures::future::Either::Right(_) => Err(Unheard::Late),
    }
}

async fn ask(metrics: &Metrics, node: &str) -> Result<String, Unheard> {
    let path = format!("/api/v1/nodes/{node}/proxy/metrics/resource");
    let request = Request::get(path).body(Body::empty()).map_err(Error::HttpError)?;
    let response = metrics.client.send(request).await?;
    if response.status() != StatusCode::OK {
        return Err(Unheard::Refused(response.status()));
    }
    let body = Limited::new(response.into_body(), LIMIT).collect().await.map_err(Unheard::Broken)?;
    Ok(String::from_utf8_lossy(&body.to_bytes()).into_owned())
}
