//! Manifests and indexes, told by their shape: docker's media types are other words for the same.

use oci_spec::image::{ImageIndex, ImageManifest, MediaType};
use serde::Deserialize;
use serde_json::Value;

use crate::{Error, Result, store};

/// What a name may point at.
pub(crate) enum Document {
    /// One image.
    Manifest(Box<ImageManifest>),
    /// The images of several platforms.
    Index(Box<ImageIndex>),
}

/// The parts by which the two are told.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Shape {
    schema_version: Option<u32>,
    media_type: Option<String>,
    manifests: Option<Value>,
    config: Option<Value>,
    layers: Option<Value>,
}

impl Document {
    /// Reads either. What could be taken for both is refused: two readers must not see two images in it.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self> {
        let shape: Shape = store::parse(bytes)?;
        if shape.schema_version == Some(1) {
            return Err(Error::invalid(
                "a manifest of docker's schema 1, which is no longer read; push the image anew",
            ));
        }
        match (shape.manifests.is_some(), shape.layers.is_some() || shape.config.is_some()) {
            (true, true) => Err(Error::invalid("a document that is both a manifest and an index")),
            (true, false) => Ok(Self::Index(Box::new(store::parse(bytes)?))),
            (false, _) => Ok(Self::Manifest(Box::new(store::parse(bytes)?))),
        }
    }
}

/// The media type that a manifest or index has, by its own words or else by its shape.
pub(crate) fn media_type(bytes: &[u8]) -> Result<MediaType> {
    let shape: Shape = store::parse(bytes)?;
    Ok(match shape.media_type {
        Some(own) => MediaType::from(own.as_str()),
        None if shape.manifests.is_some() => MediaType::ImageIndex,
        None => MediaType::ImageManifest,
    })
}
