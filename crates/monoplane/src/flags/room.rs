//! Flags of what a node keeps from its pods, when they have to leave, and of its images.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::time;

/// What a node keeps from its pods, and when they have to leave.
#[derive(Clone, Debug, Args)]
pub struct Room {
    /// Directory of the pods that the node runs by itself, whether the API is there or not [default: <data-dir>/node/manifests]
    #[arg(long, value_name = "DIR")]
    pub pod_manifest_path: Option<PathBuf>,
    /// The most pods that this machine takes
    #[arg(long, default_value_t = 110, value_name = "COUNT")]
    pub max_pods: u32,
    /// Resources kept for the plane itself, as cpu=100m,memory=1Gi,ephemeral-storage=1Gi
    #[arg(long, default_value = "", value_name = "AMOUNTS", hide_default_value = true)]
    pub kube_reserved: String,
    /// Resources kept for the rest of this machine
    #[arg(long, default_value = "", value_name = "AMOUNTS", hide_default_value = true)]
    pub system_reserved: String,
    /// Pods are evicted when less is left than this
    #[arg(long, default_value = EVICTION_HARD, value_name = "SIGNAL<AMOUNT,…")]
    pub eviction_hard: String,
    /// Pods are evicted when less is left than this for longer than --eviction-soft-grace-period
    #[arg(long, default_value = "", value_name = "SIGNAL<AMOUNT,…", hide_default_value = true)]
    pub eviction_soft: String,
    /// For how long, as memory.available=1m30s
    #[arg(long, default_value = "", value_name = "SIGNAL=TIME,…", hide_default_value = true)]
    pub eviction_soft_grace_period: String,
    /// How much more than a threshold is to be free before it no longer counts as met
    #[arg(long, default_value = "", value_name = "SIGNAL=AMOUNT,…", hide_default_value = true)]
    pub eviction_minimum_reclaim: String,
    /// For how long the node is said to run short after it did
    #[arg(long, default_value = "5m", value_name = "TIME", value_parser = time)]
    pub eviction_pressure_transition_period: Duration,
    /// Most seconds that a pod has to end which is evicted for a soft threshold
    #[arg(long, default_value_t = 0, value_name = "SECONDS")]
    pub eviction_max_pod_grace_period: u64,
}

/// Upstream's, but for disks: a machine that is not there for pods alone is often fuller than 85 %.
const EVICTION_HARD: &str = "memory.available<100Mi,nodefs.available<5%,nodefs.inodesFree<5%,imagefs.available<5%,imagefs.inodesFree<5%";

impl Default for Room {
    fn default() -> Self {
        Self {
            pod_manifest_path: None,
            max_pods: 110,
            kube_reserved: String::new(),
            system_reserved: String::new(),
            eviction_hard: EVICTION_HARD.to_owned(),
            eviction_soft: String::new(),
            eviction_soft_grace_period: String::new(),
            eviction_minimum_reclaim: String::new(),
            eviction_pressure_transition_period: Duration::from_secs(300),
            eviction_max_pod_grace_period: 0,
        }
    }
}

impl Room {
    /// What is kept for what is no pod.
    ///
    /// # Errors
    /// When a flag cannot be read; the message names it.
    pub fn reserved(&self) -> Result<kubelet::Reserved, String> {
        let read =
            |flag: &str, text: &str| kubelet::Reserved::parse(text).map_err(|why| format!("{flag}: {why}"));
        Ok(kubelet::Reserved {
            kube: read("--kube-reserved", &self.kube_reserved)?,
            system: read("--system-reserved", &self.system_reserved)?,
        })
    }

    /// When pods leave.
    ///
    /// # Errors
    /// When a flag cannot be read.
    pub fn eviction(&self) -> Result<kubelet::Eviction, String> {
        let written = kubelet::WrittenEviction {
            hard: &self.eviction_hard,
            soft: &self.eviction_soft,
            soft_grace: &self.eviction_soft_grace_period,
            min_reclaim: &self.eviction_minimum_reclaim,
        };
        let grace = Duration::from_secs(self.eviction_max_pod_grace_period);
        let read = kubelet::Eviction::parse(written, self.eviction_pressure_transition_period, grace);
        read.map_err(|why| format!("--eviction-…: {why}"))
    }

    /// The same as words.
    pub fn words(&self) -> Vec<(&'static str, String)> {
        let transition = self.eviction_pressure_transition_period.as_millis();
        vec![
            ("--max-pods", self.max_pods.to_string()),
            ("--kube-reserved", self.kube_reserved.clone()),
            ("--system-reserved", self.system_reserved.clone()),
            ("--eviction-hard", self.eviction_hard.clone()),
            ("--eviction-soft", self.eviction_soft.clone()),
            ("--eviction-soft-grace-period", self.eviction_soft_grace_period.clone()),
            ("--eviction-minimum-reclaim", self.eviction_minimum_reclaim.clone()),
            ("--eviction-pressure-transition-period", format!("{transition}ms")),
            ("--eviction-max-pod-grace-period", self.eviction_max_pod_grace_period.to_string()),
        ]
    }
}

/// Flags of the node about images.
#[derive(Clone, Debug, Args)]
pub struct Images {
    /// Images that are pulled at once; 1 pulls one after the other
    #[arg(long, default_value_t = 5, value_name = "NUMBER", value_parser = clap::value_parser!(u16).range(1..))]
    pub max_parallel_image_pulls: u16,
    /// Percent of the disk in use from which images that no pod uses are removed; 100: never
    #[arg(long, default_value_t = 85, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(0..=100))]
    pub image_gc_high_threshold: u8,
    /// Percent of the disk in use down to which they are
    #[arg(long, default_value_t = 80, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(0..=100))]
    pub image_gc_low_threshold: u8,
    /// Seconds that an image stays at least
    #[arg(long, default_value_t = 120, value_name = "SECONDS")]
    pub image_minimum_gc_age: u64,
    /// Seconds after which an image that nobody uses is removed though there is room; 0: never
    #[arg(long, default_value_t = 0, value_name = "SECONDS")]
    pub image_maximum_gc_age: u64,
}

impl Images {
    /// As the node takes them.
    pub fn words(&self) -> Vec<std::ffi::OsString> {
        let flags = [
            ("--max-parallel-image-pulls", u64::from(self.max_parallel_image_pulls)),
            ("--image-gc-high-threshold", self.image_gc_high_threshold.into()),
            ("--image-gc-low-threshold", self.image_gc_low_threshold.into()),
            ("--image-minimum-gc-age", self.image_minimum_gc_age),
            ("--image-maximum-gc-age", self.image_maximum_gc_age),
        ];
        flags
            .into_iter()
            .flat_map(|(flag, value)| [flag.to_owned(), value.to_string()])
            .map(Into::into)
            .collect()
    }

    /// In the kubelet's words.
    pub fn options(&self) -> kubelet::ImageOptions {
        let seconds = std::time::Duration::from_secs;
        kubelet::ImageOptions {
            max_parallel_pulls: self.max_parallel_image_pulls.into(),
            gc_high_percent: self.image_gc_high_threshold,
            gc_low_percent: self.image_gc_low_threshold,
            gc_minimum_age: seconds(self.image_minimum_gc_age),
            gc_maximum_age: (self.image_maximum_gc_age > 0).then(|| seconds(self.image_maximum_gc_age)),
        }
    }
}
