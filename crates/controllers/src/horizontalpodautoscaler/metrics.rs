//! What is known of usage: asked of whoever serves the three APIs of metrics.

use super::calculate::{Sample, Samples, thousandths};
use super::kinds::Kinds;
use apimachinery::field::Path;
use apimachinery::selector::Selector;
use client::kube::{Client, Error};
use client::message;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::autoscaling::v2::{CrossVersionObjectReference, MetricIdentifier, MetricSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// The window of a custom metric that names none.
const WINDOW: SignedDuration = SignedDuration::from_secs(60);
/// Versions of the API of custom metrics that are understood, the best first.
const CUSTOM_VERSIONS: [&str; 2] = ["v1beta2", "v1beta1"];

/// What one metric is now.
#[derive(Clone, Debug, PartialEq)]
pub enum Reading {
    /// Of each pod.
    Pods(Box<PodReadings>),
    /// Of all that there is, in one or several series, in thousandths.
    Series(Vec<i64>),
}

/// By pod.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PodReadings(pub(super) Samples);

/// Who serves metrics.
pub(super) struct Metrics<'a> {
    pub(super) client: &'a Client,
    pub(super) kinds: &'a Kinds,
    pub(super) namespace: &'a str,
    /// Which pods.
    pub(super) selector: &'a str,
}

impl Metrics<'_> {
    /// What a metric is now.
    pub(super) async fn read(&self, spec: &MetricSpec) -> Result<Reading, String> {
        if let Some(source) = &spec.resource {
            self.resource(&source.name, None).await
        } else if let Some(source) = &spec.container_resource {
            self.resource(&source.name, Some(&source.container)).await
        } else if let Some(source) = &spec.pods {
            self.pods(&source.metric).await
        } else if let Some(source) = &spec.object {
            self.object(&source.metric, &source.described_object).await
        } else if let Some(source) = &spec.external {
            self.external(&source.metric).await
        } else {
            Err(format!("unknown metric source type {:?}", spec.type_))
        }
    }

    async fn resource(&self, name: &str, container: Option<&str>) -> Result<Reading, String> {
        let path = format!("/apis/metrics.k8s.io/v1beta1/namespaces/{}/pods", self.namespace);
        let list: List<PodMetrics> = self
            .get(&path, &[("labelSelector", self.selector)])
            .await
            .map_err(|error| unable("resource", &error, " (get pods.metrics.k8s.io)"))?;
        if list.items.is_empty() {
            return Err("no metrics returned from resource metrics API".into());
        }
        let mut samples = Samples::new();
        for pod in list.items {
            let value = match container {
                None => pod.sum(name),
                Some(container) => pod
                    .of_container(container, name)
                    .map_err(|error| format!("failed to get container metrics: {error}"))?,
            };
            let window = pod.window.parse().unwrap_or(WINDOW);
            samples
                .extend(value.map(|value| (pod.metadata.name, Sample { at: pod.timestamp, window, value })));
        }
        Ok(Reading::Pods(Box::new(PodReadings(samples))))
    }

    async fn pods(&self, metric: &MetricIdentifier) -> Result<Reading, String> {
        let list = self.custom(&format!("pods/*/{}", segment(&metric.name)), metric, self.selector).await?;
        if list.items.is_empty() {
            return Err("no metrics returned from custom metrics API".into());
        }
        let samples = list.items.into_iter().map(|item| {
            let window = item.window_seconds.map_or(WINDOW, SignedDuration::from_secs);
            (
                item.described_object.name,
                Sample { at: item.timestamp, window, value: thousandths(&item.value) },
            )
        });
        Ok(Reading::Pods(Box::new(PodReadings(samples.collect()))))
    }

    async fn object(
        &self,
        metric: &MetricIdentifier,
        object: &CrossVersionObjectReference,
    ) -> Result<Reading, String> {
        let is_namespace =
            object.kind == "Namespace" && !object.api_version.as_deref().unwrap_or_default().contains('/');
        let path = match is_namespace {
            // Its own one: a reference does not lead out of the namespace.
            true => format!("metrics/{}", segment(&metric.name)),
            false => {
                let kind = self.kinds.of(object).await.map_err(of_custom)?;
                format!("{}/{}/{}", kind.group_resource(), segment(&object.name), segment(&metric.name))
            }
        };
        let list = self.custom(&path, metric, "").await?;
        match &list.items[..] {
            [item] => Ok(Reading::Series(vec![thousandths(&item.value)])),
            items => Err(of_custom(format!(
                "the custom metrics API server returned {} results when we asked for exactly one",
                items.len()
            ))),
        }
    }

    async fn custom(
        &self,
        path: &str,
        metric: &MetricIdentifier,
        selector: &str,
    ) -> Result<List<MetricValue>, String> {
        let group: Result<Group, Error> = self.get("/apis/custom.metrics.k8s.io", &[]).await;
        let served = group.map(|group| group.versions).unwrap_or_default();
        let version = CUSTOM_VERSIONS.iter().find(|known| served.iter().any(|each| each.version == **known));
        let version = version
            .ok_or_else(|| of_custom("no custom metrics API (custom.metrics.k8s.io) registered".into()))?;
        let path = format!("/apis/custom.metrics.k8s.io/{version}/namespaces/{}/{path}", self.namespace);
        let of_metric = text_of(metric.selector.as_ref())?;
        let query = [("labelSelector", selector), ("metricLabelSelector", &of_metric)];
        self.get(&path, &query).await.map_err(|error| unable("custom", &error, ""))
    }

    async fn external(&self, metric: &MetricIdentifier) -> Result<Reading, String> {
        let selector = text_of(metric.selector.as_ref())?;
        let path = format!(
            "/apis/external.metrics.k8s.io/v1beta1/namespaces/{}/{}",
            self.namespace,
            segment(&metric.name)
        );
        let of = format!(" (get {}.external.metrics.k8s.io)", metric.name);
        let list: List<MetricValue> = self
            .get(&path, &[("labelSelector", &selector)])
            .await
            .map_err(|error| unable("external", &error, &of))?;
        if list.items.is_empty() {
            return Err("no metrics returned from external metrics API".into());
        }
        Ok(Reading::Series(list.items.iter().map(|item| thousandths(&item.value)).collect()))
    }

    async fn get<T: DeserializeOwned>(&self, path: &str, query: &[(&str, &str)]) -> Result<T, Error> {
        let mut target = path.to_owned();
        let given = query.iter().filter(|(_, value)| !value.is_empty());
        for (number, (name, value)) in given.enumerate() {
            let before = if number == 0 { '?' } else { '&' };
            // Writing into a String does not fail.
            let _ = write!(target, "{before}{name}={}", segment(value));
        }
        let request = http::Request::get(target).body(Vec::new()).map_err(Error::HttpError)?;
        self.client.request(request).await
    }
}

fn of_custom(error: String) -> String {
    format!("unable to fetch metrics from custom metrics API: {error}")
}

/// What went wrong, in upstream's words: a client there says what it has asked for when the server does not.
fn unable(api: &str, error: &Error, of: &str) -> String {
    let said = message(error);
    let of = if said == "the server could not find the requested resource" { of } else { "" };
    format!("unable to fetch metrics from {api} metrics API: {said}{of}")
}

/// A selector of labels as a query has it.
fn text_of(selector: Option<&LabelSelector>) -> Result<String, String> {
    let Some(selector) = selector else { return Ok(String::new()) };
    // What the API's own types serialise to cannot fail to be JSON.
    let value = serde_json::to_value(selector).unwrap_or_default();
    let parsed = Selector::from_object(&value, &Path::new("selector"));
    parsed.map(|selector| selector.to_string()).map_err(|errors| format!("{errors:?}"))
}

/// As part of a path or query.
fn segment(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => escaped.push(byte.into()),
            // Writing into a String does not fail.
            _ => drop(write!(escaped, "%{byte:02X}")),
        }
    }
    escaped
}

#[derive(Deserialize)]
struct List<T> {
    items: Vec<T>,
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

#[derive(Deserialize)]
struct PodMetrics {
    metadata: Named,
    timestamp: Timestamp,
    window: String,
    containers: Vec<ContainerMetrics>,
}

#[derive(Deserialize)]
struct ContainerMetrics {
    name: String,
    usage: BTreeMap<String, String>,
}

impl PodMetrics {
    /// What all containers use; nothing, where that of one is not known.
    fn sum(&self, resource: &str) -> Option<i64> {
        let each = self.containers.iter().map(|container| container.usage.get(resource));
        let sum = each.map(|usage| usage.map(|text| thousandths(text))).sum::<Option<i64>>();
        sum.filter(|_| !self.containers.is_empty())
    }

    fn of_container(&self, name: &str, resource: &str) -> Result<Option<i64>, String> {
        let found = self.containers.iter().find(|container| container.name == name);
        let found = found.ok_or_else(|| {
            format!("container {name} not present in metrics for pod {}", self.metadata.name)
        })?;
        Ok(found.usage.get(resource).map(|text| thousandths(text)))
    }
}

/// A value of a custom or an external metric.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct MetricValue {
    #[serde(default)]
    described_object: Described,
    timestamp: Timestamp,
    #[serde(alias = "window")]
    window_seconds: Option<i64>,
    value: String,
}

#[derive(Default, Deserialize)]
struct Described {
    #[serde(default)]
    name: String,
}

#[derive(Deserialize)]
struct Group {
    versions: Vec<GroupVersion>,
}

#[derive(Deserialize)]
struct GroupVersion {
    version: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{from_value, json};

    #[test]
    fn a_pod_is_known_when_all_its_containers_are() {
        let pod = |second: serde_json::Value| -> PodMetrics {
            from_value(json!({
                "metadata": { "name": "a", "namespace": "x" }, "timestamp": "2026-01-02T03:04:05Z", "window": "15.2s",
                "containers": [{ "name": "c", "usage": { "cpu": "250m", "memory": "1Ki" } },
                    { "name": "d", "usage": second }],
            }))
            .unwrap()
        };
        assert_eq!(pod(json!({ "cpu": "1500000n" })).sum("cpu"), Some(252));
        let half = pod(json!({ "memory": "1" }));
        assert_eq!((half.sum("cpu"), half.sum("memory")), (None, Some(1_025_000)));
        assert_eq!(half.of_container("c", "cpu"), Ok(Some(250)));
        assert_eq!(half.of_container("d", "cpu"), Ok(None));
        assert!(half.of_container("e", "cpu").is_err());
        assert_eq!(half.window.parse::<SignedDuration>().unwrap(), SignedDuration::from_millis(15_200));
    }

    #[test]
    fn both_forms_of_a_custom_metric_are_read() {
        for field in ["window", "windowSeconds"] {
            let value: MetricValue = from_value(json!({
                "describedObject": { "kind": "Pod", "name": "a" }, "timestamp": "2026-01-02T03:04:05Z",
                field: 30, "value": "3500m",
            }))
            .unwrap();
            assert_eq!((value.window_seconds, thousandths(&value.value)), (Some(30), 3500));
        }
    }

    #[test]
    fn text_goes_into_targets_as_it_is_meant() {
        assert_eq!(segment("a/b?c=d&e é"), "a%2Fb%3Fc%3Dd%26e%20%C3%A9");
        let selector = from_value(json!({ "matchLabels": { "queue": "a" },
            "matchExpressions": [{ "key": "b", "operator": "In", "values": ["c", "d"] }] }));
        assert_eq!(text_of(Some(&selector.unwrap())), Ok("b in (c,d),queue=a".to_owned()));
    }
}
