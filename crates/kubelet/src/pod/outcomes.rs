//! How often probes had which outcome, for whoever counts.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use api::k8s::api::core::v1::Pod;
use instruments::{Counter, Kind, Page};

use super::handler::Trouble;

/// Which probe of which run.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Which {
    namespace: String,
    pod: String,
    uid: String,
    container: String,
    probe: &'static str,
    run: String,
}

#[derive(Debug, Default)]
struct Counts {
    successful: Counter,
    failed: Counter,
    unknown: Counter,
}

/// Of all probes that go on.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcomes(Arc<Mutex<HashMap<Which, Arc<Counts>>>>);

/// Of one probe; they are forgotten with this.
#[derive(Debug)]
pub(crate) struct Counted {
    all: Outcomes,
    which: Which,
    counts: Arc<Counts>,
}

impl Outcomes {
    /// Begins to count a probe of a run of a container.
    pub(crate) fn begin(&self, pod: &Pod, container: &str, run: &str, probe: &'static str) -> Counted {
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        let which = Which {
            namespace: text(&pod.metadata.namespace),
            pod: text(&pod.metadata.name),
            uid: text(&pod.metadata.uid),
            container: container.to_owned(),
            probe,
            run: run.to_owned(),
        };
        let counts = Arc::new(Counts::default());
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(which.clone(), counts.clone());
        Counted { all: self.clone(), which, counts }
    }

    /// Writes them on a page.
    pub(crate) fn write(&self, page: &mut Page) {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut all: Vec<_> = all.into_iter().collect();
        all.sort_by(|(one, _), (other, _)| one.cmp(other));
        page.family("prober_probe_total", Kind::Counter, "Probes, by their outcome.");
        for (which, counts) in &all {
            let Counts { successful, failed, unknown } = &**counts;
            for (result, counter) in [("successful", successful), ("failed", failed), ("unknown", unknown)] {
                let labels = [
                    ("container", &*which.container),
                    ("namespace", &*which.namespace),
                    ("pod", &*which.pod),
                    ("pod_uid", &*which.uid),
                    ("probe_type", which.probe),
                    ("result", result),
                ];
                if counter.get() > 0 {
                    page.sample(&labels, counter.get());
                }
            }
        }
    }
}

impl Counted {
    /// Notes an outcome.
    pub(crate) fn note(&self, outcome: &Result<(), Trouble>) {
        match outcome {
            Ok(()) => &self.counts.successful,
            Err(Trouble::Failed(_)) => &self.counts.failed,
            Err(Trouble::CannotAsk(_)) => &self.counts.unknown,
        }
        .add_one();
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.all.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.which);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_are_told_while_the_probe_goes_on() {
        let all = Outcomes::default();
        let counted = all.begin(&Pod::default(), "c", "run", "Liveness");
        for outcome in [Ok(()), Ok(()), Err(Trouble::Failed("x".into()))] {
            counted.note(&outcome);
        }
        let text = || {
            let mut page = Page::default();
            all.write(&mut page);
            page.finish()
        };
        assert!(text().contains("probe_type=\"Liveness\",result=\"successful\"} 2\n"), "{}", text());
        assert!(text().contains("result=\"failed\"} 1\n") && !text().contains("unknown"));
        drop(counted);
        assert_eq!(text().lines().count(), 2);
    }
}
