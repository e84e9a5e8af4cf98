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
    /// Whether it is to stay though nobody uses it.
    pub pinned: bool,
}

/// Who asks a registry for an image.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct RegistryAuth {
    /// The name.
    pub username: String,
    /// The password.
    pub password: String,
    /// Exchanged for a token at the registry's token server; goes before the password.
    pub identity_token: String,
    /// Shown to the registry as it is; goes before all others.
    pub registry_token: String,
}

impl std::fmt::Debug for RegistryAuth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Its secrets are nobody's business in a log.
        f.debug_struct("RegistryAuth").field("username", &self.username).finish_non_exhaustive()
    }
}
