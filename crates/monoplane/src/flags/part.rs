//! What a plane is made of, as far as it can be left out.

use clap::ValueEnum;
use clap::builder::PossibleValue;

/// A role that `up` starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Role {
    /// API server, controllers, scheduler
    Server,
    /// Kubelet and containers
    Node,
    /// Gateway, components, durable functions
    Edge,
}

/// A part of the server that upstream's own program can take the place of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// What kube-controller-manager does
    Controllers,
    /// What kube-scheduler does
    Scheduler,
    /// What metrics-server does
    Metrics,
}

impl Part {
    /// Upstream's program.
    pub fn program(self) -> &'static str {
        match self {
            Part::Controllers => "kube-controller-manager",
            Part::Scheduler => "kube-scheduler",
            Part::Metrics => "metrics-server",
        }
    }
}

/// What `up` can leave out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disabled {
    /// A whole role.
    Role(Role),
    /// A part of the server.
    Part(Part),
}

impl Disabled {
    /// The word for a part of the server on the command line.
    pub fn part_word(self) -> Option<&'static str> {
        match self {
            Self::Role(_) => None,
            Self::Part(Part::Controllers) => Some("controllers"),
            Self::Part(Part::Scheduler) => Some("scheduler"),
            Self::Part(Part::Metrics) => Some("metrics"),
        }
    }
}

impl ValueEnum for Disabled {
    fn value_variants<'a>() -> &'a [Self] {
        &[
            Self::Role(Role::Server),
            Self::Role(Role::Node),
            Self::Role(Role::Edge),
            Self::Part(Part::Controllers),
            Self::Part(Part::Scheduler),
            Self::Part(Part::Metrics),
        ]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        match self {
            Self::Role(role) => role.to_possible_value(),
            Self::Part(part) => part.to_possible_value(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_can_be_left_out_is_named() {
        let words = |words: &mut dyn Iterator<Item = Option<PossibleValue>>| -> Vec<String> {
            words.flatten().map(|word| word.get_name().to_owned()).collect()
        };
        let all = words(&mut Disabled::value_variants().iter().map(ValueEnum::to_possible_value));
        let mut parts = words(&mut Role::value_variants().iter().map(ValueEnum::to_possible_value));
        parts.extend(words(&mut Part::value_variants().iter().map(ValueEnum::to_possible_value)));
        assert_eq!(all, parts);
    }
}
