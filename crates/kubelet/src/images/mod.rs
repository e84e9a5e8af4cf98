//! Images of the node's pods: who pulls them as whom, how many at once, and which of them go when the disk fills up.

mod credentials;
pub(crate) mod gc;
pub(crate) mod pull;
mod records;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use records::Records;

/// How a node deals with images. The default is upstream's, but that several images come at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageOptions {
    /// Images that are pulled at once; 1 is upstream's `serializeImagePulls`.
    pub max_parallel_pulls: usize,
    /// Percent of the file system in use from which images are removed; 100: never.
    pub gc_high_percent: u8,
    /// Percent of the file system in use down to which they are.
    pub gc_low_percent: u8,
    /// None is removed that has been here for less.
    pub gc_minimum_age: Duration,
    /// One that nobody has used for so long is removed though there is room; `None`: never.
    pub gc_maximum_age: Option<Duration>,
}

impl Default for ImageOptions {
    fn default() -> Self {
        Self {
            max_parallel_pulls: 5,
            gc_high_percent: 85,
            gc_low_percent: 80,
            gc_minimum_age: Duration::from_secs(120),
            gc_maximum_age: None,
        }
    }
}

impl ImageOptions {
    /// Refuses numbers that make no sense.
    pub(crate) fn check(&self) -> Result<(), String> {
        let percent = |name: &str, value: u8| match value {
            0..=100 => Ok(()),
            _ => Err(format!("{name}: Invalid value: {value}: must be in the range [0, 100]")),
        };
        percent("imageGCHighThresholdPercent", self.gc_high_percent)?;
        percent("imageGCLowThresholdPercent", self.gc_low_percent)?;
        if self.gc_low_percent >= self.gc_high_percent && self.gc_high_percent < 100 {
            let (low, high) = (self.gc_low_percent, self.gc_high_percent);
            return Err(format!(
                "imageGCLowThresholdPercent: Invalid value: {low}: must be less than imageGCHighThresholdPercent ({high})"
            ));
        }
        match self.max_parallel_pulls {
            0 => Err("maxParallelImagePulls: Invalid value: 0: must be a positive number".to_owned()),
            _ => Ok(()),
        }
    }
}

/// What all pods' image pulls share.
pub(crate) struct ImageManager {
    pulls: Arc<Semaphore>,
    records: Records,
    options: ImageOptions,
    memories: gc::Memories,
}

impl ImageManager {
    pub(crate) fn new(options: &ImageOptions, directory: PathBuf) -> Self {
        Self {
            pulls: Arc::new(Semaphore::new(options.max_parallel_pulls.max(1))),
            records: Records::new(directory),
            options: *options,
            memories: gc::Memories::default(),
        }
    }
}
