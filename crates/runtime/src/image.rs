//! Images, as the runtime sees them.

/// An image in the runtime's store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Its id: the digest of its configuration, `sha256:…`.
    pub id: String,
    /// Names with tags that point at it, normalised (`docker.io/library/busybox:latest`).
    pub tags: Vec<String>,
    /// Names with digests that point at it.
    pub digests: Vec<String>,
    /// Bytes of its layers, unpacked size not included.
    pub size: u64,
    /// The numeric user of its configuration, when it is numeric.
    pub uid: Option<i64>,
    /// The user name of its configuration, when it is a name.
    pub username: String,
}
