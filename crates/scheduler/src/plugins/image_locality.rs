//! Nodes that have a pod's images already.

use super::{Plugin, PluginName};

const MIB: i64 = 1 << 20;
/// Less than this is soon pulled.
const LEAST: i64 = 23 * MIB;
/// More than this, for each container, makes no difference.
const MOST: i64 = 1000 * MIB;

pub(crate) const PLUGIN: Plugin = Plugin {
    name: PluginName::ImageLocality,
    concerns: |_| false,
    filter: None,
    score: Some(|cycle, snapshot, nodes| {
        let images = &cycle.pod.images;
        let total = i64::try_from(snapshot.known_nodes().max(1)).unwrap_or(i64::MAX);
        // What few nodes have counts for less, lest these few get all pods of the image.
        let found: Vec<i64> = images.iter().map(|image| i64::from(snapshot.nodes_with(image))).collect();
        if found.iter().all(|nodes| *nodes == 0) {
            return vec![0; nodes.len()];
        }
        let most = MOST.saturating_mul(i64::try_from(images.len()).unwrap_or(i64::MAX));
        let score = |at: &usize| {
            let here = &snapshot.nodes[*at].images;
            let bytes = images.iter().zip(&found).filter_map(|(image, nodes)| {
                Some((*here.get(image.as_str())? as f64 * (*nodes as f64 / total as f64)) as i64)
            });
            100 * (bytes.sum::<i64>().clamp(LEAST, most) - LEAST) / (most - LEAST)
        };
        nodes.iter().map(score).collect()
    }),
    weight: 1,
    helps: |_, _| false,
};
