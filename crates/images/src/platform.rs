//! Which of an index's images fits this machine.

use oci_spec::image::Descriptor;

use crate::Error;

/// This machine's architecture in Go's words, which OCI uses.
pub(crate) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "x86" => "386",
        "aarch64" => "arm64",
        "powerpc64" => "ppc64le",
        "loongarch64" => "loong64",
        other => other,
    }
}

/// The manifest for Linux on this machine's architecture; else the one for WebAssembly; the only one if the index names no
/// platforms.
pub(crate) fn pick(manifests: &[Descriptor]) -> Result<&Descriptor, Error> {
    let fits = |descriptor: &&Descriptor| {
        descriptor.platform().as_ref().is_some_and(|platform| {
            platform.os().to_string() == "linux" && platform.architecture().to_string() == architecture()
        })
    };
    let portable = |descriptor: &&Descriptor| {
        let platform = descriptor.platform().as_ref();
        platform.is_some_and(|platform| platform.architecture().to_string() == "wasm")
    };
    if let Some(found) = manifests.iter().find(fits).or_else(|| manifests.iter().find(portable)) {
        return Ok(found);
    }
    match manifests {
        [only] if only.platform().is_none() => Ok(only),
        _ => Err(Error::Platform {
            wanted: format!("linux/{}", architecture()),
            offered: manifests.iter().map(describe).collect::<Vec<_>>().join(", "),
        }),
    }
}

fn describe(descriptor: &Descriptor) -> String {
    match descriptor.platform() {
        Some(platform) => format!("{}/{}", platform.os(), platform.architecture()),
        None => "an image without a platform".to_owned(),
    }
}
