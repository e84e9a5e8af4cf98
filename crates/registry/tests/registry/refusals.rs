//! What is refused, as tables: an object that is all right, a change of it, and what upstream says.

use apimachinery::patch::merge::apply as merge;
use serde_json::Value;

use crate::world::World;

/// A merge patch of an object that is all right, and what is said then after `… is invalid: `.
pub(crate) type Case = (Value, &'static str);

/// Checks that the object can be made, and none of the changed ones.
pub(crate) async fn check(resource: &str, base: &Value, cases: &[Case]) {
    let world = World::new().await;
    for (change, expected) in cases {
        let object = patched(base, change);
        let refused = world.create(resource, object).await.map_err(|status| (status.code, status.message));
        assert_said(refused, change, expected);
    }
    world.create(resource, base.clone()).await.unwrap();
}

/// Checks that none of the changes can be made of the stored object, all of it.
pub(crate) async fn check_updates(world: &World, resource: &str, name: &str, cases: &[Case]) {
    for (change, expected) in cases {
        let refused = world.merge(resource, name, change.clone()).await;
        assert_said(refused.map_err(|status| (status.code, status.message)), change, expected);
    }
}

fn assert_said(refused: Result<Value, (u16, String)>, change: &Value, expected: &str) {
    let (code, message) = refused.expect_err(&change.to_string());
    let said = message.split_once(" is invalid: ").map_or(&*message, |(_, said)| said);
    assert_eq!((code, said.lines().next().unwrap_or_default()), (422, expected), "{change}");
}

/// The object with the patch laid over it.
pub(crate) fn patched(base: &Value, change: &Value) -> Value {
    let mut object = base.clone();
    merge(&mut object, change);
    object
}
