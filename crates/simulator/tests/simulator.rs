//! Seeds hold, a seed is one history, and what is broken on purpose is found.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr)]

use std::collections::BTreeSet;

use simulator::{Sabotage, simulate};

/// The first seeds of every day; more of them by `cargo xtask soak simulate`.
fn hold(seeds: std::ops::RangeInclusive<u64>) {
    let mut happened: BTreeSet<&str> = BTreeSet::new();
    for seed in seeds {
        let outcome = simulate(seed, None).unwrap();
        if let Some(violation) = outcome.violation {
            outcome.trace.iter().rev().take(200).rev().for_each(|line| eprintln!("{line}"));
            panic!("seed {seed}: {violation}\nreplay: cargo xtask soak simulate --seeds 1 --from {seed}");
        }
        let happens = |words: &&str| outcome.trace.iter().any(|line| line.ends_with(words));
        happened.extend(HAPPENS.into_iter().filter(happens));
    }
    let never: Vec<_> = HAPPENS.into_iter().filter(|words| !happened.contains(words)).collect();
    assert!(never.is_empty(), "these seeds show little, since this never happened: {never:?}");
}

/// What must have happened in some of as many seeds, or they show nothing: how lines of the trace end.
const HAPPENS: [&str; 28] = [
    "the server is killed",
    "the store's watches break",
    "revisions are compacted",
    "the disk fails now and then",
    "loses power",
    "is killed",
    "has ended",
    "the user deploys",
    "the user scales a deployment",
    "the user rolls out",
    "the user pauses or resumes",
    "the user deletes a deployment",
    "the user deletes a replicaset",
    "the user makes a dependent",
    "the user deletes a namespace",
    "the user cordons, drains or uncordons",
    "the user makes a statefulset",
    "the user changes a statefulset",
    "the user deletes a statefulset",
    "the user makes a daemonset",
    "the user changes a daemonset",
    "the user deletes a daemonset",
    "the user makes a job",
    "the user changes a job",
    "the user makes a cronjob",
    "the user makes or changes a budget",
    "the user evicts pods",
    "all is settled",
];

/// Tests of their own, so that they run side by side.
macro_rules! seeds {
    ($($name:ident: $seeds:expr,)*) => {
        $(
            #[test]
            fn $name() {
                hold($seeds);
            }
        )*
    };
}

seeds! {
    the_first_seeds_hold: 1..=25,
    the_second_seeds_hold: 26..=50,
    the_third_seeds_hold: 51..=75,
    the_fourth_seeds_hold: 76..=100,
    the_fifth_seeds_hold: 101..=125,
    the_sixth_seeds_hold: 126..=150,
    the_seventh_seeds_hold: 151..=175,
    the_eighth_seeds_hold: 176..=200,
}

#[test]
fn a_seed_is_one_history() {
    let mut hashes = BTreeSet::new();
    for seed in [1, 2] {
        let (first, again) = (simulate(seed, None).unwrap(), simulate(seed, None).unwrap());
        if let Some(at) = first.trace.iter().zip(&again.trace).position(|(a, b)| a != b) {
            panic!("seed {seed} went two ways: {:?} and {:?}", first.trace[at], again.trace[at]);
        }
        assert_eq!(first.hash, again.hash);
        assert!(first.trace.len() > 100, "nothing happened");
        assert!(hashes.insert(first.hash), "two seeds are one history");
    }
}

/// Some of a hundred seeds see the bug, and say what it did. Others may see what comes of it. The first of them is one that was
/// seen to find it, which saves the time of those that do not; after a change that makes other histories the search is
/// longer, and another may be written here.
fn is_found(sabotage: Sabotage, words: &str, from: u64) {
    let sees =
        |seed| simulate(seed, Some(sabotage)).unwrap().violation.is_some_and(|said| said.contains(words));
    assert!((from..from + 100).any(sees), "{sabotage:?} was not found");
}

#[test]
fn writes_of_a_stale_leader_without_preconditions_are_found() {
    is_found(Sabotage::Fencing, "its write succeeded unconditionally", 1);
}

#[test]
fn more_surge_than_allowed_is_found() {
    is_found(Sabotage::Surge, "are the most", 2);
}

#[test]
fn forgetting_what_was_just_written_is_found() {
    is_found(Sabotage::Memory, "were wanted", 2);
}

#[test]
fn a_rollout_that_leaves_nothing_available_is_found() {
    is_found(Sabotage::Unavailable, "must be", 2);
}

#[test]
fn a_name_that_runs_twice_is_found() {
    is_found(Sabotage::Force, "runs twice at once", 13);
}

#[test]
fn a_statefulset_out_of_order_is_found() {
    is_found(Sabotage::Order, "has not been ready", 2);
}

#[test]
fn a_statefulset_that_is_updated_all_at_once_is_found() {
    is_found(Sabotage::Update, "an update leaves", 13);
}

#[test]
fn two_daemons_on_a_node_are_found() {
    is_found(Sabotage::DaemonSurge, "pods of a daemon on", 4);
}

#[test]
fn a_job_that_runs_too_much_at_once_is_found() {
    is_found(Sabotage::Parallelism, "of a Job at once", 2);
}

#[test]
fn a_job_that_counts_an_end_twice_is_found() {
    is_found(Sabotage::Count, "a Job counts", 1);
}

#[test]
fn jobs_at_once_that_must_not_be_are_found() {
    is_found(Sabotage::Concurrency, "a Job begins beside", 16);
}

#[test]
fn an_eviction_against_a_budget_is_found() {
    is_found(Sabotage::Budget, "an eviction leaves", 18);
}
