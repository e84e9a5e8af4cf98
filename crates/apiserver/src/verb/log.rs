//! A container's log, fetched from the kubelet of the pod's node.

use apimachinery::status::Status;
use bytes::Bytes;
use futures::StreamExt;
use http::{HeaderValue, Request, StatusCode};
use registry::Part;
use tokio::sync::OwnedSemaphorePermit;

use super::{On, kubelet};
use crate::body::{self, Body};
use crate::dial::NodeReply;
use crate::query::Query;
use crate::respond::{self, Answer};

/// Parameters that the kubelet takes as the client gave them.
const PASSED: [&str; 8] =
    ["follow", "previous", "sinceSeconds", "sinceTime", "stream", "timestamps", "tailLines", "limitBytes"];

pub(super) async fn get(on: On<'_>, permit: OwnedSemaphorePermit) -> Answer {
    let pod = on.server.registry.get(&on.kind, on.namespace, on.name, Part::Whole).await?.tree();
    let container = kubelet::container(&pod, on.name, on.call.query.get("container"))?;
    let Some(address) = kubelet::of(&on, &pod).await? else {
        // Nothing runs yet, so nothing was written.
        return Ok(respond::text(StatusCode::OK, Bytes::new()));
    };
    let path = path_of(on.namespace, on.name, &container, on.call.query);
    let request = Request::get(&path).body(body::nothing()).map_err(Status::internal_error)?;
    let reply = on.server.dialer.send(&address, request).await.map_err(|error| {
        Status::internal_error(format!("Get \"https://{}:{}{path}\": {error}", address.host, address.port))
    })?;
    let NodeReply::Answered(answer) = reply else {
        return Err(Status::internal_error("the kubelet changed protocols unasked"));
    };
    if answer.head.status != StatusCode::OK {
        return Err(kubelet::refused(answer).await);
    }
    let stop = on.server.stopping.clone();
    // The place among the streams is held until the last byte has gone.
    let held = answer.body.map(move |chunk| {
        let _ = &permit;
        chunk
    });
    let body = Body::stream(held.take_until(stop.cancelled_owned()));
    Ok(respond::with_type(StatusCode::OK, HeaderValue::from_static("text/plain"), body))
}

fn path_of(namespace: &str, pod: &str, container: &str, query: &Query) -> String {
    let mut passed = form_urlencoded::Serializer::new(String::new());
    for (key, value) in query.iter().filter(|(key, _)| PASSED.contains(key)) {
        passed.append_pair(key, value);
    }
    let passed = passed.finish();
    let mark = if passed.is_empty() { "" } else { "?" };
    format!("/containerLogs/{namespace}/{pod}/{container}{mark}{passed}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_parameters_reach_the_kubelet() {
        let query = Query::parse(Some("follow=true&container=a&tailLines=5&x=y"));
        assert_eq!(path_of("ns", "p", "a", &query), "/containerLogs/ns/p/a?follow=true&tailLines=5");
        assert_eq!(path_of("ns", "p", "a", &Query::default()), "/containerLogs/ns/p/a");
    }
}
