//! What is counted here, for Prometheus, under upstream's names.

use std::collections::BTreeMap;

use instruments::{Kind, Page};
use jiff::Timestamp;
use runtime::ContainerState;

use crate::context::Context;
use crate::usage::{PodUsage, Usage, measure};

/// `/metrics/resource`: what nodes and pods are scaled and shown by.
pub(super) async fn resource(cx: &Context) -> String {
    let usage = measure(cx).await;
    let mut page = Page::default();
    let at = usage.at.as_millisecond();
    page.family("container_cpu_usage_seconds_total", Kind::Counter, "CPU time of the container.");
    each_container(&usage, |labels, _, stats| {
        page.sample_at(labels, seconds(stats.cpu_nanoseconds), stats.timestamp / 1_000_000);
    });
    page.family("container_memory_working_set_bytes", Kind::Gauge, "Working set of the container.");
    each_container(&usage, |labels, _, stats| {
        page.sample_at(labels, stats.memory_working_set, stats.timestamp / 1_000_000);
    });
    page.family(
        "container_start_time_seconds",
        Kind::Gauge,
        "When the container began, since the Unix epoch.",
    );
    each_container(&usage, |labels, run, _| page.sample(labels, since_epoch(run.started_at)));
    if let Some(node) = usage.node {
        page.family("node_cpu_usage_seconds_total", Kind::Counter, "CPU time of the node.");
        page.sample_at(&[], seconds(node.cpu_nanoseconds), at);
        page.family("node_memory_working_set_bytes", Kind::Gauge, "Working set of the node.");
        page.sample_at(&[], node.memory_working_set, at);
    }
    page.family("pod_cpu_usage_seconds_total", Kind::Counter, "CPU time of the pod.");
    each_pod(&usage, |labels, used| page.sample_at(labels, seconds(used.cpu_nanoseconds), at));
    page.family("pod_memory_working_set_bytes", Kind::Gauge, "Working set of the pod.");
    each_pod(&usage, |labels, used| page.sample_at(labels, used.memory_working_set, at));
    page.family("resource_scrape_error", Kind::Gauge, "1 if not all could be asked.");
    page.sample(&[], u8::from(usage.is_partial));
    page.finish()
}

fn each_container(
    usage: &Usage,
    mut tell: impl FnMut(&[(&str, &str)], &runtime::ContainerStatus, &runtime::ContainerStats),
) {
    for pod in &usage.pods {
        for (run, stats) in &pod.containers {
            let labels =
                [("container", &*run.metadata.name), ("namespace", pod.namespace()), ("pod", pod.name())];
            tell(&labels, run, stats);
        }
    }
}

fn each_pod(usage: &Usage, mut tell: impl FnMut(&[(&str, &str)], &runtime::GroupUsage)) {
    for pod in &usage.pods {
        if let Some(whole) = &pod.whole {
            tell(&[("namespace", pod.namespace()), ("pod", pod.name())], whole);
        }
    }
}

/// A container as cAdvisor's metrics tell of it: its labels, and what they are of.
type Row<'a> = ([(&'a str, &'a str); 6], Figures);

struct Figures {
    at: i64,
    cpu: f64,
    working_set: u64,
    processes: u64,
    began: f64,
    limits: runtime::Resources,
}

/// `/metrics/cadvisor`: containers and whole pods.
pub(super) async fn cadvisor(cx: &Context) -> String {
    let usage = measure(cx).await;
    let rows: Vec<Row<'_>> = usage.pods.iter().flat_map(|pod| rows(pod, usage.at)).collect();
    let mut page = Page::default();
    let mut family = |name, kind, help: &str, of: &dyn Fn(&Figures) -> Option<f64>| {
        page.family(name, kind, help);
        for (labels, figures) in &rows {
            if let Some(value) = of(figures) {
                page.sample_at(labels, value, figures.at);
            }
        }
    };
    let limit = |limit: Option<i64>| Some(limit.filter(|limit| *limit > 0).map_or(0.0, float));
    family("container_cpu_usage_seconds_total", Kind::Counter, "CPU time.", &|of| Some(of.cpu));
    family("container_memory_working_set_bytes", Kind::Gauge, "Working set.", &|of| {
        Some(float(of.working_set.cast_signed()))
    });
    family("container_processes", Kind::Gauge, "Processes.", &|of| Some(float(of.processes.cast_signed())));
    family("container_start_time_seconds", Kind::Gauge, "When it began, since the Unix epoch.", &|of| {
        Some(of.began)
    });
    family("container_last_seen", Kind::Gauge, "When it was measured, since the Unix epoch.", &|of| {
        Some(float(of.at / 1000))
    });
    family("container_spec_memory_limit_bytes", Kind::Gauge, "Its limit of memory; 0 without.", &|of| {
        limit(of.limits.memory_limit)
    });
    family("container_spec_cpu_quota", Kind::Gauge, "Microseconds of CPU time a period.", &|of| {
        of.limits.cpu_quota.filter(|quota| *quota > 0).map(float)
    });
    family("container_spec_cpu_period", Kind::Gauge, "Microseconds of a period.", &|of| {
        of.limits.cpu_period.map(|period| float(period.cast_signed()))
    });
    family("container_spec_cpu_shares", Kind::Gauge, "Its weight among others.", &|of| {
        of.limits.cpu_shares.map(|shares| float(shares.cast_signed()))
    });
    let capacity = |name: &str| {
        let node = cx.node.borrow();
        let amount = node.status.as_ref()?.capacity.as_ref()?.get(name)?.0.clone();
        amount.parse::<apimachinery::quantity::Quantity>().ok().map(|amount| amount.value())
    };
    for (name, help, of) in [
        ("machine_cpu_cores", "CPUs of the machine.", "cpu"),
        ("machine_memory_bytes", "Memory of the machine.", "memory"),
    ] {
        if let Some(amount) = capacity(of) {
            page.family(name, Kind::Gauge, help);
            page.sample(&[], amount);
        }
    }
    page.finish()
}

fn rows(pod: &PodUsage, at: Timestamp) -> Vec<Row<'_>> {
    let began = pod.pod.status.as_ref().and_then(|status| status.start_time.as_ref());
    let whole = pod.whole.map(|whole| {
        let labels = [
            ("container", ""),
            ("id", &*pod.group),
            ("image", ""),
            ("name", ""),
            ("namespace", pod.namespace()),
            ("pod", pod.name()),
        ];
        let figures = Figures {
            at: at.as_millisecond(),
            cpu: seconds(whole.cpu_nanoseconds),
            working_set: whole.memory_working_set,
            processes: whole.pids,
            began: began.map_or(0.0, |began| float(began.0.as_second())),
            limits: runtime::Resources::default(),
        };
        (labels, figures)
    });
    let containers = pod.containers.iter().map(|(run, stats)| {
        let labels = [
            ("container", &*run.metadata.name),
            ("id", &*run.id),
            ("image", &*run.image),
            ("name", &*run.id),
            ("namespace", pod.namespace()),
            ("pod", pod.name()),
        ];
        let figures = Figures {
            at: stats.timestamp / 1_000_000,
            cpu: seconds(stats.cpu_nanoseconds),
            working_set: stats.memory_working_set,
            processes: stats.pids,
            began: since_epoch(run.started_at),
            limits: run.resources.clone(),
        };
        (labels, figures)
    });
    whole.into_iter().chain(containers).collect()
}

/// `/metrics/probes`: what probes found.
pub(super) fn probes(cx: &Context) -> String {
    let mut page = Page::default();
    cx.outcomes.write(&mut page);
    page.finish()
}

/// `/metrics`: the node's own work.
pub(super) async fn own(cx: &Context) -> String {
    let mut page = Page::default();
    page.family("kubelet_node_name", Kind::Gauge, "The node's name.");
    page.sample(&[("node", &cx.node_name)], 1);
    let (mut pods, mut containers) = (0, BTreeMap::<&str, u64>::new());
    for runtime in cx.runtimes.all() {
        let sandboxes = runtime.list_sandboxes().await.unwrap_or_default();
        pods += sandboxes.iter().filter(|sandbox| sandbox.state == runtime::SandboxState::Ready).count();
        for run in runtime.list_containers().await.unwrap_or_default() {
            let state = match run.state {
                ContainerState::Created => "created",
                ContainerState::Running => "running",
                ContainerState::Exited => "exited",
                ContainerState::Unknown => "unknown",
            };
            *containers.entry(state).or_default() += 1;
        }
    }
    page.family("kubelet_running_pods", Kind::Gauge, "Pods that have a sandbox which is ready.");
    page.sample(&[], pods);
    page.family("kubelet_running_containers", Kind::Gauge, "Containers, by where they are in their lives.");
    for (state, count) in containers {
        page.sample(&[("container_state", state)], count);
    }
    page.family("kubelet_desired_pods", Kind::Gauge, "Pods that are to run here.");
    for (is_static, count) in
        [("", cx.all_pods().len() - cx.statics.list().len()), ("true", cx.statics.list().len())]
    {
        page.sample(&[("static", is_static)], count);
    }
    instruments::process(&mut page);
    page.finish()
}

fn since_epoch(nanoseconds: i64) -> f64 {
    float(nanoseconds) / 1e9
}

#[allow(clippy::cast_precision_loss)]
fn seconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e9
}

#[allow(clippy::cast_precision_loss)]
fn float(number: i64) -> f64 {
    number as f64
}
