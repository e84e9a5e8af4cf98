use super::*;

fn refused(text: &str) -> String {
    let head = "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\n";
    Config::read(&format!("{head}{text}")).unwrap_err().to_string()
}

fn read(text: &str) -> Config {
    let head = "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\n";
    Config::read(&format!("{head}{text}")).unwrap()
}

fn weight(profile: &Profile, name: PluginName) -> Option<i64> {
    profile.scores.iter().find(|(known, _)| known.0 == name).map(|(_, weight)| *weight)
}

#[test]
fn what_is_wrong_is_named_with_its_field() {
    for (text, part) in [
        ("extenders: []", "extenders"),
        ("profiles: [{ schedulerName: a }, { schedulerName: a }]", "profiles[1].schedulerName"),
        (
            "profiles: [{ plugins: { score: { enabled: [{ name: Nope }] } } }]",
            "profiles[0].plugins.score.enabled[0].name",
        ),
        ("profiles: [{ plugins: { bind: {} } }]", "bind"),
        (
            "profiles: [{ pluginConfig: [{ name: NodeResourcesFit, args: { typo: 1 } }] }]",
            "profiles[0].pluginConfig[0].args: unknown field `typo`",
        ),
        ("profiles: [{ pluginConfig: [{ name: NodeName, args: {} }] }]", "takes no arguments"),
        ("percentageOfNodesToScore: 101", "percentageOfNodesToScore: 101"),
        ("podInitialBackoffSeconds: 20", "podMaxBackoffSeconds"),
        (
            "profiles: [{ pluginConfig: [{ name: InterPodAffinity, args: { hardPodAffinityWeight: 200 } }] }]",
            "hardPodAffinityWeight: 200",
        ),
    ] {
        let why = refused(text);
        assert!(why.contains(part), "{text}: {why}");
    }
    assert!(Config::read("kind: Pod").unwrap_err().to_string().contains("apiVersion"));
}

#[test]
fn plugins_are_chosen_and_weighed() {
    let config = read(
        "podInitialBackoffSeconds: 2
profiles:
- schedulerName: packed
  percentageOfNodesToScore: 30
  plugins:
    multiPoint: { disabled: [{ name: PodTopologySpread }] }
    score: { disabled: [{ name: '*' }], enabled: [{ name: NodeResourcesFit, weight: 7 }] }
    postFilter: { disabled: [{ name: DefaultPreemption }] }
  pluginConfig:
  - name: NodeResourcesFit
    args:
      kind: NodeResourcesFitArgs
      scoringStrategy:
        type: RequestedToCapacityRatio
        requestedToCapacityRatio: { shape: [{ utilization: 0, score: 0 }, { utilization: 50, score: 10 }, { utilization: 100, score: 5 }] }
- schedulerName: default-scheduler
",
    );
    let packed = config.profile("packed").unwrap();
    assert_eq!(config.first_pause, Duration::from_secs(2));
    assert_eq!(packed.scores.len(), 1);
    assert_eq!(weight(packed, PluginName::NodeResourcesFit), Some(7));
    assert!(!packed.preempts && !packed.filters.contains(&Named(PluginName::PodTopologySpread)));
    assert_eq!(packed.percentage_of_nodes_to_score, 30);
    let shape = &packed.fit.packing.shape;
    let scores: Vec<_> = [0, 25, 50, 75, 100, 200].map(|taken| shape.score(100, taken)).into();
    assert_eq!(scores, [0, 50, 100, 75, 50, 50]);

    let plain = config.profile("default-scheduler").unwrap();
    for (name, expected) in [
        (PluginName::TaintToleration, 3),
        (PluginName::NodeAffinity, 2),
        (PluginName::PodTopologySpread, 2),
        (PluginName::InterPodAffinity, 2),
        (PluginName::NodeResourcesFit, 1),
        (PluginName::NodeResourcesBalancedAllocation, 1),
        (PluginName::ImageLocality, 1),
    ] {
        assert_eq!(weight(plain, name), Some(expected), "{name}");
    }
    assert!(config.profile("nobody").is_none());
}

#[test]
fn shapes_say_how_full_a_node_should_be() {
    assert_eq!(Shape::LeastAllocated.score(100, 25), 75);
    assert_eq!(Shape::LeastAllocated.score(100, 101), 0);
    assert_eq!(Shape::MostAllocated.score(100, 25), 25);
    assert_eq!(Shape::MostAllocated.score(100, 200), 100);
}
