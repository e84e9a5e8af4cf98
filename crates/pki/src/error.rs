use std::path::PathBuf;

/// Why a certificate could not be made, kept or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file of the directory could not be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The authority's file is there and cannot be understood. It is never replaced silently: that would lock out
    /// every client that trusts it.
    #[error("{}: not a certificate authority: {reason}", path.display())]
    BrokenAuthority {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A name that cannot be put into a certificate or a file name.
    #[error("invalid name {name:?}: {reason}")]
    InvalidName {
        /// The name.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// PEM or DER that cannot be understood.
    #[error("malformed certificate or key: {0}")]
    Malformed(String),
    /// The master keys' file, or a value that one of them should open, cannot be understood.
    #[error("encryption with {}: {why}", path.display())]
    Encryption {
        /// The keys' file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A value was encrypted with a key that is not there.
    #[error("it was encrypted with key {id}, which is not in {}: put the file with that key there", path.display())]
    UnknownKey {
        /// The key's id.
        id: String,
        /// The keys' file.
        path: PathBuf,
    },
    /// Making a key or signing failed.
    #[error("cannot issue a certificate: {0}")]
    Issue(#[from] rcgen::Error),
}
