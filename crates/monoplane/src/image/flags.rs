//! The words of `monoplane image`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::flags::AtDataDir;

/// The verbs of `image`. All work on the store of the node in the data directory, also while it runs.
#[derive(Clone, Debug, Subcommand)]
#[command(after_help = NAMES)]
pub enum Image {
    /// Bring an image from its registry into the store
    #[command(after_help = PULL)]
    Pull(Pull),
    /// Send an image of the store to a registry
    #[command(after_help = PUSH)]
    Push(Push),
    /// Write images to a file that `docker load` and `monoplane image load` read
    Save(Save),
    /// Bring images from a file or directory into the store
    #[command(visible_alias = "import")]
    Load(Load),
    /// List what the store holds
    Ls(Ls),
    /// Say all that is known of an image, as JSON
    Inspect(Inspect),
    /// Give an image one more name
    Tag(Tag),
    /// Remove images
    Rm(Rm),
    /// Give back the room of what no name leads to
    #[command(after_help = PRUNE)]
    Prune(Prune),
    /// Keep an image from being removed when the disk fills up
    Pin(Pin),
}

const NAMES: &str = "\
Names are as docker's: `busybox` means docker.io/library/busybox:latest; a registry is named in front
(registry.example/team/app:1), and a digest behind (app@sha256:...).";

const PULL: &str = "\
Examples:
  monoplane image pull busybox:1.36
  monoplane image pull registry.example/team/app:1 --authfile ~/.docker/config.json
  monoplane image pull localhost:5000/app        plain HTTP, since it is on this machine

What is here already is not fetched again, nor what came before a pull was broken off. Mirrors, authorities and
credentials of registries stand in <data-dir>/node/registries.yaml (see docs/containers.md).";

const PUSH: &str = "\
Examples:
  monoplane image push app:1 registry.example/team/app:1
  monoplane image push registry.example/team/app:1        under the name that it has

Only blobs that the registry lacks are sent; those of its other repositories it is asked to take from there.";

const PRUNE: &str = "\
Removes blobs, unpacked layers and half-fetched blobs that no name leads to; layers of containers that are there
stay. With --all, images that no container uses and that are not pinned lose their names first.";

/// Who one is to registries.
#[derive(Clone, Debug, Args)]
pub struct Who {
    /// File of credentials in the shape of docker's config.json [default: ~/.docker/config.json, if it is there]
    #[arg(long, value_name = "FILE")]
    pub authfile: Option<PathBuf>,
    /// Mirrors, credentials and authorities, in the shape of K3s's registries.yaml [default:
    /// <data-dir>/node/registries.yaml]
    #[arg(long, value_name = "FILE")]
    pub registries: Option<PathBuf>,
}

/// Flags of `image pull`.
#[derive(Clone, Debug, Args)]
pub struct Pull {
    /// Where the state lives
    #[command(flatten)]
    pub at: AtDataDir,
    /// The image's name
    pub image: String,
    /// Who asks
    #[command(flatten)]
    pub who: Who,
    /// Fetch the images of all platforms, to push or save them
    #[arg(long)]
    pub all_platforms: bool,
}

/// Flags of `image push`.
#[derive(Clone, Debug, Args)]
pub struct Push {
    /// Where the state lives
    #[command(flatten)]
    pub at: AtDataDir,
    /// The image, by name or id
    pub image: String,
    /// The name that it gets in the registry [default: its own]
    pub to: Option<String>,
    /// Who pushes
    #[command(flatten)]
    pub who: Who,
    /// Send blobs in pieces of so many MiB, for registries or proxies that limit a request
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u32).range(1..))]
    pub chunk: Option<u32>,
}

/// Flags of `image save`.
#[derive(Clone, Debug, Args)]
pub struct Save {
    /// Where the state lives
    #[command(flatten)]
    pub at: AtDataDir,
    /// The images, by name or id
    #[arg(required = true)]
    pub images: Vec<String>,
    /// The file; `-` is standard output
    #[arg(long, short, value_name = "FILE")]
    pub output: PathBuf,
}

/// Flags of `image load`.
#[derive(Clone, Debug, Args)]
pub struct Load {
    /// Where the state lives
    #[command(flatten)]
    pub at: AtDataDir,
    /// An OCI layout (directory or tar) or a `docker save` archive, compressed or not, or a `.wasm` file, which becomes a
    /// Wasm OCI artifact; `-` is standard input
    pub path: PathBuf,
    /// Name it so, when it carries no name, as a `.wasm` file does
    #[arg(long)]
    pub tag: Option<String>,
}

/// Flags of `image ls`.
#[derive(Clone, Debug, Args)]
pub struct Ls {
    /// Where the state lives
    #[command(flatten)]
    pub at: AtDataDir,
    /// Print ids alone
    #[arg(long, short)]
    pub quiet: bool,
}

/// Flags of `image inspect`.
#[derive(Clone, Debug, Args)]
pub struct Inspect {
    /// Where the state lives
    #[command(flatten)]
    pub at: AtDataDir,
    /// The image, by name or id
    pub image: String,
}

/// Flags of `image tag`.
#[derive(Clone, Debug, Args)]
pub struct Tag {
    /// Where the state lives
    #[command(flatten)]
    pub at: AtDataDir,
    /// The image, by name or id
    pub image: String,
    /// The further name
    pub name: String,
}

/// Flags of `image rm`.
#[derive(Clone, Debug, Args)]
pub struct Rm {
    /// Where the state lives
    #[command(flatten)]
    pub at: AtDataDir,
    /// The images: a name is taken away, and with the last one the image; an id takes all names away
    #[arg(required = true)]
    pub images: Vec<String>,
    /// Also when a container uses it; what the container has open stays until it ends
    #[arg(long, short)]
    pub force: bool,
}

/// Flags of `image prune`.
#[derive(Clone, Debug, Args)]
pub struct Prune {
    /// Where the state lives
    #[command(flatten)]
    pub at: AtDataDir,
    /// Also images that have names, and that no container uses
    #[arg(long, short)]
    pub all: bool,
}

/// Flags of `image pin`.
#[derive(Clone, Debug, Args)]
pub struct Pin {
    /// Where the state lives
    #[command(flatten)]
    pub at: AtDataDir,
    /// The image, by name or id
    pub image: String,
    /// Not any more
    #[arg(long)]
    pub undo: bool,
}
