//! Bindings in a world where plans are made on old facts and broken off: no volume is ever two claims', and in the end every
//! claim that can be bound is, on both sides.

use super::{
    Binder, Key, View, claim_ref, class_of_claim, class_of_volume, is_complete, phase_of, volume_name,
};
use crate::Controller;
use crate::plan::Action;
use client::ObjectKey;
use client::kube::ResourceExt;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use proptest::prelude::*;
use serde_json::{Value, from_value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// All that there is, by name; a clone is what somebody saw earlier.
#[derive(Clone, Default)]
struct World {
    claims: BTreeMap<String, Value>,
    volumes: BTreeMap<String, Value>,
    version: u64,
}

#[derive(Clone, Debug)]
enum Step {
    /// Somebody plans on what was seen so many steps ago, and does so many actions.
    Plan {
        claim: bool,
        at: usize,
        ago: usize,
        actions: usize,
    },
    Claim {
        name: usize,
        size: usize,
        volume: Option<usize>,
    },
    Volume {
        name: usize,
        size: usize,
        claim: Option<usize>,
    },
    DropClaim {
        name: usize,
    },
    DropVolume {
        name: usize,
    },
}

impl World {
    fn next(&mut self) -> String {
        self.version += 1;
        self.version.to_string()
    }

    fn claim(&mut self, name: usize, size: usize, volume: Option<usize>) {
        let version = self.next();
        let volume = volume.map(|volume| format!("v{volume}"));
        self.claims.entry(format!("c{name}")).or_insert_with(|| {
            json!({
                "metadata": { "name": format!("c{name}"), "namespace": "x", "uid": format!("u{version}"), "resourceVersion": version },
                "spec": {
                    "storageClassName": "s", "volumeName": volume, "resources": { "requests": { "storage": format!("{size}Gi") } },
                },
                "status": { "phase": "Pending" },
            })
        });
    }

    fn volume(&mut self, name: usize, size: usize, claim: Option<usize>) {
        let version = self.next();
        let claim = claim.map(|claim| json!({ "namespace": "x", "name": format!("c{claim}") }));
        self.volumes.entry(format!("v{name}")).or_insert_with(|| {
            json!({
                "metadata": { "name": format!("v{name}"), "uid": format!("u{version}"), "resourceVersion": version },
                "spec": {
                    "storageClassName": "s", "claimRef": claim, "capacity": { "storage": format!("{size}Gi") },
                    "persistentVolumeReclaimPolicy": "Retain",
                },
                "status": { "phase": "Pending" },
            })
        });
    }

    fn typed_claim(&self, name: &str) -> Option<Arc<PersistentVolumeClaim>> {
        self.claims.get(name).map(|claim| Arc::new(from_value(claim.clone()).unwrap()))
    }

    fn typed_volume(&self, name: &str) -> Option<Arc<PersistentVolume>> {
        self.volumes.get(name).map(|volume| Arc::new(from_value(volume.clone()).unwrap()))
    }

    fn view(&self, key: &Key, now: &Self) -> View {
        match key {
            Key::Claim(key) => {
                let Some(claim) = self.typed_claim(&key.name) else { return View::default() };
                let mut view = View { volume: self.typed_volume(volume_name(&claim)), ..View::default() };
                if !is_complete(&claim) && volume_name(&claim).is_empty() {
                    let all = self.volumes.keys().filter_map(|name| self.typed_volume(name));
                    view.candidates =
                        all.filter(|volume| class_of_volume(volume) == class_of_claim(&claim)).collect();
                }
                View { claim: Some(claim), ..view }
            }
            Key::Volume(name) => {
                let Some(volume) = self.typed_volume(name) else { return View::default() };
                let named =
                    claim_ref(&volume).and_then(|reference| reference.name.clone()).unwrap_or_default();
                let uid = claim_ref(&volume).and_then(|reference| reference.uid.clone());
                // What is not known is asked for.
                let known = self.typed_claim(&named).filter(|claim| claim.uid() == uid);
                let claim = if uid.is_some() { known.or_else(|| now.typed_claim(&named)) } else { None };
                View { claim, volume: Some(volume), ..View::default() }
            }
        }
    }

    /// Carries out a plan until it ends or the server has another version.
    fn act(&mut self, plan: Vec<Action>, actions: usize) -> usize {
        let mut done = 0;
        for action in plan.into_iter().take(actions) {
            let Action::Patch(patch) = action else { continue };
            let version = self.next();
            let objects = match patch.resource.plural.as_str() {
                "persistentvolumes" => &mut self.volumes,
                _ => &mut self.claims,
            };
            let Some(object) = objects.get_mut(&patch.key.name) else { return done };
            if object["metadata"]["uid"] != patch.body["metadata"]["uid"]
                || object["metadata"]["resourceVersion"] != patch.body["metadata"]["resourceVersion"]
            {
                return done;
            }
            let owner = object["spec"]["claimRef"]["uid"].clone();
            testkit::merge(object, &patch.body);
            let after = &object["spec"]["claimRef"]["uid"];
            assert!(owner.is_null() || after.is_null() || *after == owner, "{} is stolen", patch.key.name);
            object["metadata"]["resourceVersion"] = json!(version);
            done += 1;
        }
        done
    }

    fn keys(&self) -> Vec<Key> {
        let claims = self.claims.keys().map(|name| Key::Claim(ObjectKey::new("x", name)));
        claims.chain(self.volumes.keys().cloned().map(Key::Volume)).collect()
    }

    fn settle(&mut self) {
        for _ in 0..40 {
            let mut done = 0;
            for key in self.keys() {
                let plan = Binder::plan(&key, &self.view(&key, self), &None, Timestamp::UNIX_EPOCH);
                done += self.act(plan.actions, usize::MAX);
            }
            if done == 0 {
                return self.check_end();
            }
        }
        panic!("it never comes to rest: {:#?} {:#?}", self.claims, self.volumes);
    }

    fn check_end(&self) {
        let gibibytes =
            |value: &Value| -> usize { value.as_str().unwrap().trim_end_matches("Gi").parse().unwrap() };
        let free = |size: usize| {
            self.volumes.values().any(|volume| {
                volume["spec"]["claimRef"].is_null()
                    && gibibytes(&volume["spec"]["capacity"]["storage"]) >= size
            })
        };
        for (name, value) in &self.claims {
            let claim = self.typed_claim(name).unwrap();
            match value["status"]["phase"].as_str().unwrap() {
                "Bound" => {
                    let volume = self.typed_volume(volume_name(&claim)).unwrap();
                    assert_eq!(claim_ref(&volume).unwrap().uid, claim.uid());
                    assert_eq!(phase_of(&volume), "Bound");
                }
                "Pending" => {
                    let asks = !volume_name(&claim).is_empty();
                    let size = gibibytes(&value["spec"]["resources"]["requests"]["storage"]);
                    assert!(asks || !free(size), "{name} could be bound: {:#?}", self.volumes);
                }
                phase => assert_eq!(phase, "Lost"),
            }
        }
        for (name, value) in &self.volumes {
            let volume = self.typed_volume(name).unwrap();
            let uid = claim_ref(&volume).and_then(|reference| reference.uid.clone());
            let named = claim_ref(&volume).and_then(|reference| self.typed_claim(reference.name.as_deref()?));
            let is_claimed = named.is_some_and(|claim| claim.uid() == uid && volume_name(&claim) == name);
            let expected = if is_claimed {
                "Bound"
            } else if uid.is_some() {
                "Released"
            } else {
                "Available"
            };
            assert_eq!(phase_of(&volume), expected, "{value:#}");
        }
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let maybe = || prop_oneof![3 => Just(None), 1 => (0..3_usize).prop_map(Some)];
    let step = prop_oneof![
        6 => (any::<bool>(), 0..3_usize, 0..6_usize, 0..4_usize)
            .prop_map(|(claim, at, ago, actions)| Step::Plan { claim, at, ago, actions }),
        2 => (0..3_usize, 1..4_usize, maybe()).prop_map(|(name, size, volume)| Step::Claim { name, size, volume }),
        2 => (0..3_usize, 1..4_usize, maybe()).prop_map(|(name, size, claim)| Step::Volume { name, size, claim }),
        1 => (0..3_usize).prop_map(|name| Step::DropClaim { name }),
        1 => (0..3_usize).prop_map(|name| Step::DropVolume { name }),
    ];
    proptest::collection::vec(step, 0..60)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn no_volume_is_two_claims_and_all_comes_to_rest(steps in steps()) {
        let (mut world, mut seen) = (World::default(), Vec::new());
        for step in steps {
            seen.push(world.clone());
            match step {
                Step::Plan { claim, at, ago, actions } => {
                    let then = seen[seen.len().saturating_sub(1 + ago)].clone();
                    let key = match claim {
                        true => Key::Claim(ObjectKey::new("x", format!("c{at}"))),
                        false => Key::Volume(format!("v{at}")),
                    };
                    let plan = Binder::plan(&key, &then.view(&key, &world), &None, Timestamp::UNIX_EPOCH);
                    world.act(plan.actions, actions);
                }
                Step::Claim { name, size, volume } => world.claim(name, size, volume),
                Step::Volume { name, size, claim } => world.volume(name, size, claim),
                Step::DropClaim { name } => drop(world.claims.remove(&format!("c{name}"))),
                Step::DropVolume { name } => drop(world.volumes.remove(&format!("v{name}"))),
            }
        }
        world.settle();
    }
}
