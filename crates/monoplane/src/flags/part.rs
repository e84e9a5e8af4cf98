//! Parts of the server that can be left to upstream's programs.

use clap::ValueEnum;

/// A part of the server that upstream's own program can take the place of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// What kube-controller-manager does
    Controllers,
    /// What kube-scheduler does
    Scheduler,
}

impl Part {
    /// The word for it on the command line.
    pub fn word(self) -> &'static str {
        match self {
            Part::Controllers => "controllers",
            Part::Scheduler => "scheduler",
        }
    }

    /// Upstream's program.
    pub fn program(self) -> &'static str {
        match self {
            Part::Controllers => "kube-controller-manager",
            Part::Scheduler => "kube-scheduler",
        }
    }
}
