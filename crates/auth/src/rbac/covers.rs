//! Whether one set of rules grants all that another does: what keeps a user from granting what they do not have, and
//! tells which bootstrap rules a stored role lacks.

use super::PolicyRule;
use super::rule::{has, matches_path, matches_resource};

/// What `wanted` grants beyond `held`, broken down into rules of one verb, one group, one resource and one name (or
/// one path) each; empty when `held` covers it all.
pub fn uncovered(held: &[PolicyRule], wanted: &[PolicyRule]) -> Vec<PolicyRule> {
    let mut missing: Vec<PolicyRule> = Vec::new();
    for rule in wanted {
        for single in singles(rule) {
            if !held.iter().any(|held| covers(held, &single)) && !missing.contains(&single) {
                missing.push(single);
            }
        }
    }
    missing
}

fn singles(rule: &PolicyRule) -> Vec<PolicyRule> {
    let mut out = Vec::new();
    let one = |word: &String| vec![word.clone()];
    for verb in &rule.verbs {
        for url in &rule.non_resource_urls {
            out.push(PolicyRule { verbs: one(verb), non_resource_urls: one(url), ..PolicyRule::default() });
        }
        for group in &rule.api_groups {
            for resource in &rule.resources {
                let any = PolicyRule {
                    verbs: one(verb),
                    api_groups: one(group),
                    resources: one(resource),
                    ..PolicyRule::default()
                };
                if rule.resource_names.is_empty() {
                    out.push(any.clone());
                }
                for name in &rule.resource_names {
                    out.push(PolicyRule { resource_names: one(name), ..any.clone() });
                }
            }
        }
    }
    out
}

/// Whether a rule covers a single one.
fn covers(held: &PolicyRule, single: &PolicyRule) -> bool {
    let all = |list: &[String], held: &[String]| list.iter().all(|word| has(held, word));
    all(&single.verbs, &held.verbs)
        && if single.non_resource_urls.is_empty() {
            all(&single.api_groups, &held.api_groups)
                && single.resources.iter().all(|wanted| covers_resource(held, wanted))
                && (held.resource_names.is_empty()
                    || !single.resource_names.is_empty()
                        && single.resource_names.iter().all(|name| held.resource_names.contains(name)))
        } else {
            single
                .non_resource_urls
                .iter()
                .all(|wanted| held.non_resource_urls.iter().any(|rule| matches_path(rule, wanted)))
        }
}

fn covers_resource(held: &PolicyRule, wanted: &str) -> bool {
    let (resource, subresource) = wanted.split_once('/').unwrap_or((wanted, ""));
    held.resources.iter().any(|rule| rule == wanted || matches_resource(rule, resource, subresource))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(verbs: &str, groups: &str, resources: &str, names: &str) -> PolicyRule {
        let list = |text: &str| text.split_whitespace().map(|word| word.replace("core", "")).collect();
        PolicyRule {
            verbs: list(verbs),
            api_groups: list(groups),
            resources: list(resources),
            resource_names: list(names),
            non_resource_urls: Vec::new(),
        }
    }

    fn paths(verbs: &str, urls: &str) -> PolicyRule {
        let list = |text: &str| text.split_whitespace().map(str::to_owned).collect();
        PolicyRule { verbs: list(verbs), non_resource_urls: list(urls), ..PolicyRule::default() }
    }

    #[test]
    fn what_is_covered() {
        let held = [
            rule("get list", "core", "pods secrets", ""),
            rule("*", "apps", "*", ""),
            rule("get", "core", "configmaps", "a b"),
            rule("update", "*", "*/scale", ""),
            paths("get", "/healthz /api/*"),
        ];
        let covered = [
            rule("get", "core", "pods", ""),
            rule("get list", "core", "secrets pods", "x"),
            rule("delete", "apps", "deployments deployments/scale", ""),
            rule("get", "core", "configmaps", "b"),
            rule("update", "batch", "jobs/scale", ""),
            paths("get", "/healthz /api/v1 /api/v1/*"),
        ];
        for wanted in covered {
            assert_eq!(uncovered(&held, std::slice::from_ref(&wanted)), [], "{wanted:?}");
        }
        let not_covered = [
            (rule("watch", "core", "pods", ""), 1),
            (rule("get", "core", "configmaps", ""), 1),
            (rule("get", "core", "configmaps", "a c"), 1),
            (rule("get watch", "core apps", "pods nodes", ""), 3),
            (rule("*", "core", "pods", ""), 1),
            (rule("get", "*", "pods", ""), 1),
            (rule("get", "core", "pods/log", ""), 1),
            (paths("get", "/healthz/* /apis /*"), 3),
        ];
        for (wanted, missing) in not_covered {
            assert_eq!(uncovered(&held, std::slice::from_ref(&wanted)).len(), missing, "{wanted:?}");
        }
    }
}
