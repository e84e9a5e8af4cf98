use serde_json::json;

use super::{Operator, Requirement, Selector};
use crate::field::Path;

#[test]
fn selectors_choose_as_upstream() {
    let labels = json!({"app": "web", "tier": "", "n": "5"});
    for (text, expected) in [
        ("", true),
        ("app=web", true),
        ("app!=web", false),
        ("other!=web", true),
        ("app in (web,db)", true),
        ("app notin (web)", false),
        ("other notin (web)", true),
        ("app", true),
        ("!app", false),
        ("!other", true),
        ("tier=", true),
        ("other=", false),
        ("n>4,n<6", true),
        ("n>5", false),
        ("app>1", false),
        ("app=web,other", false),
    ] {
        assert_eq!(Selector::parse(text).unwrap().matches(labels.as_object()), expected, "{text}");
    }
    assert!(!Selector::nothing().matches(labels.as_object()));
    assert!(Selector::everything().matches(None));
}

#[test]
fn the_object_form_says_the_same() {
    let path = Path::new("spec");
    let object = json!({
        "matchLabels": {"b": "2", "a": "1"},
        "matchExpressions": [
            {"key": "c", "operator": "In", "values": ["y", "x"]},
            {"key": "d", "operator": "NotIn", "values": ["z"]},
            {"key": "e", "operator": "Exists"},
            {"key": "f", "operator": "DoesNotExist"},
        ],
    });
    let selector = Selector::from_object(&object, &path).unwrap();
    assert_eq!(selector.to_string(), "a=1,b=2,c in (x,y),d!=z,e,!f");
    assert_eq!(Selector::from_object(&json!({}), &path), Ok(Selector::everything()));
    assert_eq!(Selector::from_object(&json!(null), &path), Ok(Selector::nothing()));
    assert_eq!(Selector::from_map(None), Selector::nothing());
    assert_eq!(Selector::from_map(json!({"a": "b"}).as_object()).to_string(), "a=b");
}

#[test]
fn faults_of_the_object_form_name_their_field() {
    let object = json!({"matchExpressions": [
        {"key": "a", "operator": "In"},
        {"key": "a", "operator": "Exists", "values": ["x"]},
        {"key": "a", "operator": "Near"},
        {"key": "-", "operator": "Exists"},
    ]});
    let errors = Selector::from_object(&object, &Path::new("spec")).unwrap_err();
    let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(
        texts[..3],
        [
            "spec.matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'",
            "spec.matchExpressions[1].values: Forbidden: may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
            "spec.matchExpressions[2].operator: Invalid value: \"Near\": not a valid selector operator",
        ]
    );
    assert!(
        texts[3].starts_with("spec.matchExpressions[3].key: Invalid value: \"-\": name part must consist")
    );
}

#[test]
fn requirements_are_checked() {
    let values = |list: &[&str]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
    for (key, operator, list) in [
        ("", Operator::Exists, &[][..]),
        ("a", Operator::In, &[]),
        ("a", Operator::Exists, &["x"]),
        ("a", Operator::GreaterThan, &["x"]),
        ("a", Operator::LessThan, &["1", "2"]),
        ("a", Operator::In, &["-"]),
    ] {
        assert!(Requirement::new(key, operator, values(list)).is_err(), "{key} {operator:?} {list:?}");
    }
}
