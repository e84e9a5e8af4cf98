//! Devices (`resource.k8s.io`): what upstream fills in, keeps, shows and refuses.

use registry::{ListOptions, Part};
use serde_json::{Value, json};

use crate::refusals::{Case, check, check_updates, patched};
use crate::world::{World, names, now};

const CLASSES: &str = "deviceclasses.resource.k8s.io";
const CLAIMS: &str = "resourceclaims.resource.k8s.io";
const TEMPLATES: &str = "resourceclaimtemplates.resource.k8s.io";
const SLICES: &str = "resourceslices.resource.k8s.io";

fn class() -> Value {
    json!({"metadata": {"name": "fast"}, "spec": {
        "selectors": [{"cel": {"expression": "device.driver == 'gpu.example.org'"}}],
        "config": [{"opaque": {"driver": "gpu.example.org", "parameters": {"kind": "Settings"}}}],
        "extendedResourceName": "example.org/gpu"}})
}

fn claim() -> Value {
    json!({"metadata": {"name": "c"}, "spec": {"devices": {
        "requests": [
            {"name": "one", "exactly": {"deviceClassName": "fast", "tolerations": [{"key": "worn"}]}},
            {"name": "some", "firstAvailable": [
                {"name": "big", "deviceClassName": "big"},
                {"name": "all", "deviceClassName": "fast", "allocationMode": "All"}]}],
        "constraints": [{"requests": ["one", "some/big"], "matchAttribute": "example.org/numa"}],
        "config": [{"requests": ["some"], "opaque": {"driver": "gpu.example.org", "parameters": {}}}]}}})
}

fn slice() -> Value {
    json!({"metadata": {"name": "s"}, "spec": {
        "driver": "gpu.example.org", "nodeName": "n1",
        "pool": {"name": "n1/left", "generation": 2, "resourceSliceCount": 1},
        "devices": [{
            "name": "gpu-0",
            "attributes": {
                "model": {"string": "A"}, "example.org/numa": {"int": 1}, "driverVersion": {"version": "1.2.3"},
                "many": {"bool": true, "strings": ["dropped"]}},
            "capacity": {"memory": {"value": "16Gi"}},
            "taints": [{"key": "worn", "effect": "NoSchedule"}],
            "nodeAllocatableResourceMappings": {"cpu": {"allocationMultiplier": "2"}}}]}})
}

/// A claim's status with one device of it given.
fn given() -> Value {
    json!({
        "allocation": {
            "devices": {
                "results": [{"request": "one", "driver": "gpu.example.org", "pool": "n1/left", "device": "gpu-0"}],
                "config": [{"source": "FromClass", "opaque": {"driver": "gpu.example.org", "parameters": {}}}]},
            "nodeSelector": {"nodeSelectorTerms": [
                {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]}]}},
        "reservedFor": [{"resource": "pods", "name": "p", "uid": "u1"}],
        "devices": [{"driver": "gpu.example.org", "pool": "n1/left", "device": "gpu-0",
            "data": {"any": 1}, "networkData": {"ips": ["10.0.0.1/24"]}}]})
}

async fn update_status(world: &World, status: Value) -> Result<Value, String> {
    let mut claim = world.get(CLAIMS, "c").await.unwrap();
    claim["status"] = status;
    world.update_part(CLAIMS, Part::Status, claim).await.map_err(|status| {
        let said = status.message.split_once(" is invalid: ").map_or(&*status.message, |(_, said)| said);
        said.to_owned()
    })
}

#[tokio::test]
async fn what_is_filled_in_and_shown() {
    let world = World::new().await;
    let made = world.create(CLASSES, class()).await.unwrap();
    assert_eq!(made["metadata"]["generation"], 1);
    let changed =
        world.merge(CLASSES, "fast", json!({"spec": {"extendedResourceName": null}})).await.unwrap();
    assert_eq!(changed["metadata"]["generation"], 2);

    let mut brought = claim();
    brought["status"] = given();
    let made = world.create(CLAIMS, brought).await.unwrap();
    assert_eq!(made["status"], json!({}), "nobody brings a status along");
    let requests = &made["spec"]["devices"]["requests"];
    assert_eq!(
        requests[0]["exactly"],
        json!({"deviceClassName": "fast", "allocationMode": "ExactCount", "count": 1,
            "tolerations": [{"key": "worn", "operator": "Equal"}]})
    );
    let big = json!({"name": "big", "deviceClassName": "big", "allocationMode": "ExactCount", "count": 1});
    let all = json!({"name": "all", "deviceClassName": "fast", "allocationMode": "All"});
    assert_eq!(requests[1]["firstAvailable"], json!([big, all]));
    let state = async |expected: &str| {
        let row = world.row(CLAIMS, "c").await;
        assert_eq!(row, json!({"Name": "c", "State": expected, "Age": row["Age"]}));
    };
    state("pending").await;
    update_status(&world, given()).await.unwrap();
    state("allocated,reserved").await;

    let template = json!({"metadata": {"name": "t"}, "spec": {"spec": claim()["spec"]}});
    let made = world.create(TEMPLATES, template).await.unwrap();
    assert_eq!(made["spec"]["metadata"], json!({}));
    assert_eq!(&made["spec"]["spec"]["devices"]["requests"], requests);

    let made = world.create(SLICES, slice()).await.unwrap();
    let device = &made["spec"]["devices"][0];
    assert_eq!(device["taints"][0]["timeAdded"], apimachinery::time::format(now()));
    assert_eq!(device["attributes"]["many"], json!({"bool": true}), "lists are alpha");
    assert!(device.get("nodeAllocatableResourceMappings").is_none(), "alpha");
    assert_eq!(made["metadata"]["generation"], 1);
    let row = world.row(SLICES, "s").await;
    let expected =
        json!({"Name": "s", "Node": "n1", "Driver": "gpu.example.org", "Pool": "n1/left", "Age": row["Age"]});
    assert_eq!(row, expected);
}

#[tokio::test]
async fn slices_are_found_by_node_and_driver() {
    let world = World::new().await;
    world.create(SLICES, slice()).await.unwrap();
    let everywhere = json!({"metadata": {"name": "e"}, "spec": {"nodeName": null, "allNodes": true}});
    world.create(SLICES, patched(&slice(), &everywhere)).await.unwrap();
    for (selector, expected) in [
        ("spec.nodeName=n1", vec!["s"]),
        ("spec.nodeName=", vec!["e"]),
        ("spec.driver=gpu.example.org", vec!["e", "s"]),
        ("spec.driver=gpu.example.org,spec.nodeName!=n1", vec!["e"]),
    ] {
        let options = ListOptions { field_selector: selector.to_owned(), ..ListOptions::default() };
        let list = world.list(SLICES, options).await.unwrap();
        assert_eq!(names(list.objects()), expected, "{selector}");
    }
}

#[tokio::test]
async fn what_a_class_may_not_say() {
    let selector = |expression: &str| json!({"spec": {"selectors": [{"cel": {"expression": expression}}]}});
    let expensive = (1..=7).fold("int('1'.find('[0-9]*')) < 100".to_owned(), |inner, depth| {
        format!("[1, 2, 3, 4, 5, 6, 7, 8, 9, 10].all(z{depth}, {inner})")
    });
    let at = "spec.selectors[0].cel.expression";
    let said = |expression: &str, why: &str| -> &'static str {
        format!("{at}: Invalid value: {}: {why}", apimachinery::field::quote(expression)).leak()
    };
    let cases = [
        (json!({"spec": {"selectors": [{}]}}), "spec.selectors[0].cel: Required value"),
        (
            selector("device.price < 3"),
            said("device.price < 3", "compilation failed: ERROR: <input>:1:7: undefined field 'price'"),
        ),
        (selector("1"), said("1", "must evaluate to bool or the unknown type, not int")),
        (selector("dyn(true)"), said("dyn(true)", "must evaluate to bool or the unknown type, not dyn")),
        (
            selector("device.attributes['a'].b.exists(x, x)"),
            said(
                "device.attributes['a'].b.exists(x, x)",
                "compilation failed: ERROR: <input>:1:23: expression of type 'any' cannot be range of a comprehension \
                 (must be list, map, or dynamic)",
            ),
        ),
        (
            selector(&expensive),
            "spec.selectors[0].cel.expression: Forbidden: too complex, exceeds cost limit",
        ),
        (
            selector(&format!("true || '{}' == ''", "x".repeat(10 * 1024))),
            "spec.selectors[0].cel.expression: Too long: may not be more than 10240 bytes",
        ),
        (json!({"spec": {"config": [{}]}}), "spec.config[0].opaque: Required value"),
        (
            json!({"spec": {"config": [{"opaque": {"driver": "a b", "parameters": null}}]}}),
            "[spec.config[0].opaque.driver: Invalid value: \"a b\": a lowercase RFC 1123 subdomain must consist of lower \
             case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. \
             'example.com', regex used for validation is \
             '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*'), spec.config[0].opaque.parameters: \
             Required value]",
        ),
        (
            json!({"spec": {"extendedResourceName": "cpu"}}),
            "spec.extendedResourceName: Invalid value: \"cpu\": must be a valid extended resource name",
        ),
        (
            json!({"spec": {"selectors": vec![json!({"cel": {"expression": "true"}}); 33]}}),
            "spec.selectors: Too many: 33: must have at most 32 items",
        ),
    ];
    let cases: Vec<Case> = cases.into_iter().map(|(change, said)| (change, unescaped(said))).collect();
    check(CLASSES, &class(), &cases).await;
}

/// A regular expression in messages has one backslash where the source above has two.
fn unescaped(text: &'static str) -> &'static str {
    text.replace("\\\\", "\\").leak()
}

#[tokio::test]
async fn what_a_claim_may_not_say() {
    let devices = |devices: Value| json!({"spec": {"devices": devices}});
    let request =
        |request: Value| devices(json!({"requests": [request], "constraints": null, "config": null}));
    let exactly = |exactly: Value| request(json!({"name": "one", "exactly": exactly}));
    let cases = [
        (
            request(json!({"name": "one"})),
            "spec.devices.requests[0]: Required value: exactly one of `exactly` or `firstAvailable` is required",
        ),
        (
            request(json!({"name": "one", "exactly": {"deviceClassName": "a"},
                "firstAvailable": [{"name": "b", "deviceClassName": "b"}]})),
            "spec.devices.requests[0]: Invalid value: \"null\": exactly one of `exactly` or `firstAvailable` is required, \
             but multiple fields are set",
        ),
        (exactly(json!({})), "spec.devices.requests[0].exactly.deviceClassName: Required value"),
        (
            exactly(json!({"deviceClassName": "a", "count": -1})),
            "spec.devices.requests[0].exactly.count: Invalid value: -1: must be greater than zero",
        ),
        (
            exactly(json!({"deviceClassName": "a", "allocationMode": "All", "count": 2})),
            "spec.devices.requests[0].exactly.count: Invalid value: 2: must not be specified when allocationMode is 'All'",
        ),
        (
            exactly(json!({"deviceClassName": "a", "allocationMode": "Most"})),
            "spec.devices.requests[0].exactly.allocationMode: Unsupported value: \"Most\": supported values: \"All\", \
             \"ExactCount\"",
        ),
        (
            exactly(json!({"deviceClassName": "a", "tolerations": [
                {"operator": "Exists", "value": "v", "effect": "PreferNoSchedule"}]})),
            "[spec.devices.requests[0].exactly.tolerations[0].value: Invalid value: \"v\": must be empty for operator \
             `Exists`, spec.devices.requests[0].exactly.tolerations[0].effect: Unsupported value: \"PreferNoSchedule\": \
             supported values: \"NoExecute\", \"NoSchedule\", \"None\"]",
        ),
        (
            devices(json!({"requests": [
                {"name": "one", "exactly": {"deviceClassName": "a"}}, {"name": "one", "exactly": {"deviceClassName": "b"}}],
                "constraints": null, "config": null})),
            "spec.devices.requests[1]: Duplicate value: \"one\"",
        ),
        (
            devices(json!({"constraints": [{}]})),
            "spec.devices.constraints[0]: Required value: exactly one of \"matchAttribute\" or \"distinctAttribute\" is \
             required, but multiple fields are set",
        ),
        (
            devices(json!({"constraints": [{"distinctAttribute": "numa"}]})),
            "spec.devices.constraints[0].distinctAttribute: Invalid value: \"numa\": a fully qualified name must be a \
             domain and a name separated by a slash",
        ),
        (
            devices(json!({"constraints": [{"requests": ["two"], "matchAttribute": "a.b/c"}]})),
            "spec.devices.constraints[0].requests[0]: Invalid value: \"two\": must be the name of a request in the claim \
             or the name of a request and a subrequest separated by '/'",
        ),
        (
            devices(
                json!({"config": [{"requests": ["one", "one"], "opaque": {"driver": "a", "parameters": {}}}]}),
            ),
            "spec.devices.config[0].requests[1]: Duplicate value: \"one\"",
        ),
        (
            devices(
                json!({"config": [{"opaque": {"driver": "a", "parameters": {"long": "x".repeat(10 * 1024)}}}]}),
            ),
            "spec.devices.config[0].opaque.parameters: Too long: may not be more than 10240 bytes",
        ),
    ];
    check(CLAIMS, &claim(), &cases).await;
    let world = World::new().await;
    world.create(CLAIMS, claim()).await.unwrap();
    let refused = world.merge(CLAIMS, "c", json!({"spec": {"devices": {"config": null}}})).await.unwrap_err();
    assert!(refused.message.ends_with(": field is immutable"), "{}", refused.message);
    let template = json!({"metadata": {"name": "t"}, "spec": {"spec": claim()["spec"]}});
    world.create(TEMPLATES, template).await.unwrap();
    let change = json!({"spec": {"metadata": {"labels": {"a": "b"}}}});
    let refused = world.merge(TEMPLATES, "t", change).await.unwrap_err();
    assert!(refused.message.ends_with(": field is immutable"), "{}", refused.message);
}

#[tokio::test]
async fn what_a_claims_status_may_not_say() {
    let world = World::new().await;
    world.create(CLAIMS, claim()).await.unwrap();
    let cases = [
        (
            json!({"allocation": null}),
            "[status.devices[0]: Invalid value: \"gpu.example.org/n1/left/gpu-0\": must be an allocated device in the \
             claim, status.reservedFor: Forbidden: may not be specified when `allocated` is not set]",
        ),
        (
            json!({"reservedFor": [{"resource": "pods", "name": "p", "uid": "u"}, {"resource": "pods", "name": "q", "uid": "u"}]}),
            "status.reservedFor[1]: Duplicate value: \"u\"",
        ),
        (
            json!({"reservedFor": [{"name": "p"}]}),
            "[status.reservedFor[0].resource: Required value, status.reservedFor[0].uid: Required value]",
        ),
        (
            json!({"allocation": {"devices": {"results": [
                {"request": "three", "driver": "gpu.example.org", "pool": "n1/left", "device": "gpu-0"}]}}}),
            "status.allocation.devices.results[0].request: Invalid value: \"three\": must be the name of a request in the \
             claim or the name of a request and a subrequest separated by '/'",
        ),
        (
            json!({"allocation": {"devices": {"config": [{"opaque": {"driver": "a", "parameters": {}}}]}}}),
            "status.allocation.devices.config[0].source: Required value",
        ),
        (
            json!({"allocation": {"devices": {"results": [{"request": "one", "driver": "gpu.example.org",
                "pool": "n1/left", "device": "gpu-0", "shareID": "x", "bindingConditions": ["a"]}]}}, "devices": null}),
            "[status.allocation.devices.results[0].bindingFailureConditions: Invalid value: []: bindingFailureConditions \
             are required to use bindingConditions, status.allocation.devices.results[0].shareID: Invalid value: \"x\": \
             error validating uid: invalid UUID length: 1]",
        ),
        (
            json!({"devices": [{"driver": "gpu.example.org", "pool": "n1/left", "device": "gpu-0",
                "networkData": {"ips": ["10.0.0.1", "010.0.0.1/24"]}}]}),
            "[status.devices[0].networkData.ips[0]: Invalid value: \"10.0.0.1\": must be a valid address in CIDR form, \
             (e.g. 10.9.8.7/24 or 2001:db8::1/64), status.devices[0].networkData.ips[1]: Invalid value: \"010.0.0.1/24\": \
             must be in canonical form (\"10.0.0.1/24\")]",
        ),
    ];
    for (change, expected) in cases {
        let refused = update_status(&world, patched(&given(), &change)).await.unwrap_err();
        assert_eq!(refused, expected, "{change}");
    }
    let made = update_status(&world, given()).await.unwrap();
    assert_eq!(made["status"]["devices"], given()["devices"]);
    let other = json!({"allocation": {"nodeSelector": null}});
    let refused = update_status(&world, patched(&given(), &other)).await.unwrap_err();
    assert!(refused.starts_with("status.allocation: Invalid value: "), "{refused}");
    assert!(refused.ends_with(": field is immutable"), "{refused}");
    // A status goes by the way of status only, and takes nothing else along.
    let mut claim = world.get(CLAIMS, "c").await.unwrap();
    claim["status"] = json!({});
    let kept = world.update(CLAIMS, claim.clone()).await.unwrap();
    assert_eq!(kept["status"], made["status"]);
    let mut claim = kept;
    claim["metadata"]["labels"] = json!({"a": "b"});
    let kept = world.update_part(CLAIMS, Part::Status, claim).await.unwrap();
    assert!(kept["metadata"].get("labels").is_none());
    // What was said of devices goes with them.
    let freed = update_status(&world, json!({"devices": given()["devices"]})).await.unwrap();
    assert_eq!(freed["status"], json!({}));
}

#[tokio::test]
async fn a_claim_that_is_to_go_gets_no_new_users() {
    let world = World::new().await;
    let finalizers = json!({"metadata": {"finalizers": ["resource.kubernetes.io/delete-protection"]}});
    world.create(CLAIMS, patched(&claim(), &finalizers)).await.unwrap();
    update_status(&world, given()).await.unwrap();
    world.delete(CLAIMS, "c").await.unwrap();
    assert_eq!(world.row(CLAIMS, "c").await["State"], "deleted,allocated,reserved");
    let more =
        json!({"reservedFor": [given()["reservedFor"][0], {"resource": "pods", "name": "q", "uid": "u2"}]});
    let refused = update_status(&world, patched(&given(), &more)).await.unwrap_err();
    let expected = "status.reservedFor: Forbidden: new entries may not be added while `deallocationRequested` or \
                    `deletionTimestamp` are set";
    assert_eq!(refused, expected);
    update_status(&world, json!({})).await.unwrap();
    assert_eq!(world.row(CLAIMS, "c").await["State"], "deleted");
}

#[tokio::test]
async fn what_a_slice_may_not_say() {
    let spec = |spec: Value| json!({"spec": spec});
    let device = |device: Value| spec(json!({"devices": [patched(&json!({"name": "d"}), &device)]}));
    let policy = |policy: Value| {
        device(
            json!({"allowMultipleAllocations": true, "capacity": {"m": {"value": "10", "requestPolicy": policy}}}),
        )
    };
    let at_policy = "spec.devices[0].capacity[m].requestPolicy";
    let of_policy = |said: &str| -> &'static str { said.replace('@', at_policy).leak() };
    let cases = [
        (spec(json!({"pool": {"name": ""}})), "spec.pool.name: Required value"),
        (
            spec(json!({"pool": {"generation": -1, "resourceSliceCount": 0}})),
            "[spec.pool.resourceSliceCount: Invalid value: 0: must be greater than zero, spec.pool.generation: Invalid \
             value: -1: must be greater than or equal to zero]",
        ),
        (
            spec(json!({"nodeName": null})),
            "spec: Required value: exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is \
             required",
        ),
        (
            spec(json!({"allNodes": true})),
            "spec: Invalid value: \"{`nodeName`, `allNodes`}\": exactly one of `nodeName`, `nodeSelector`, `allNodes`, \
             `perDeviceNodeSelection` is required, but multiple fields are set",
        ),
        (
            spec(json!({"allNodes": false})),
            "spec.allNodes: Invalid value: false: must be either unset or set to true",
        ),
        (
            spec(json!({"sharedCounters": [{"name": "c", "counters": {"a": {"value": "1"}}}]})),
            "spec: Invalid value: \"\": only one of `sharedCounters` or `devices` is allowed",
        ),
        (
            spec(
                json!({"devices": null, "sharedCounters": [{"name": "c"}, {"name": "c", "counters": {"a": {"value": "1"}}}]}),
            ),
            "[spec.sharedCounters[0].counters: Required value, spec.sharedCounters[1]: Duplicate value: \"c\"]",
        ),
        (spec(json!({"devices": [{"name": "d"}, {"name": "d"}]})), "spec.devices[1]: Duplicate value: \"d\""),
        (
            spec(json!({"devices": vec![json!({"name": "d"}); 129]})),
            "spec.devices: Too many: 129: must have at most 128 items",
        ),
        (
            spec(
                json!({"devices": vec![json!({"name": "d", "taints": [{"key": "a", "effect": "None"}]}); 65]}),
            ),
            "spec.devices: Too many: 65: must have at most 64 items",
        ),
        (
            device(json!({"attributes": {"a": {}}})),
            "spec.devices[0].attributes[a]: Invalid value: \"\": exactly one value must be specified",
        ),
        (
            device(json!({"attributes": {"a": {"version": "1.2"}}})),
            "spec.devices[0].attributes[a].version: Invalid value: \"1.2\": must be a string compatible with semver.org \
             spec 2.0.0",
        ),
        (
            device(json!({"attributes": {"/a": {"int": 1}}})),
            "spec.devices[0].attributes: Invalid value: \"\": the domain must not be empty",
        ),
        (
            device(json!({"attributes": {"a": {"string": "x".repeat(65)}}})),
            "spec.devices[0].attributes[a].string: Too long: may not be more than 64 bytes",
        ),
        (
            device(json!({"taints": [{"key": "a", "effect": "PreferNoSchedule"}]})),
            "spec.devices[0].taints[0].effect: Unsupported value: \"PreferNoSchedule\": supported values: \"NoExecute\", \
             \"NoSchedule\", \"None\"",
        ),
        (
            device(json!({"nodeName": "n2"})),
            "spec.devices[0]: Invalid value: \"null\": `nodeName`, `nodeSelector` and `allNodes` can only be set if \
             `perDeviceNodeSelection` is set to true in the ResourceSlice spec",
        ),
        (
            spec(json!({"nodeName": null, "perDeviceNodeSelection": true, "devices": [{"name": "d"}]})),
            "spec.devices[0]: Required value: exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when \
             `perDeviceNodeSelection` is set to true in the ResourceSlice spec",
        ),
        (
            device(json!({"consumesCounters": [{"counterSet": "", "counters": {"A b": {"value": "1"}}}]})),
            "[spec.devices[0].consumesCounters[0].counterSet: Required value, spec.devices[0].consumesCounters[0].counters: \
             Invalid value: \"A b\": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', \
             and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for \
             validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')]",
        ),
        (
            device(json!({"capacity": {"m": {"value": "10", "requestPolicy": {"default": "1"}}}})),
            "spec.devices[0].capacity[m].requestPolicy: Forbidden: allowMultipleAllocations must be true",
        ),
        (
            policy(json!({"validValues": ["1"], "validRange": {"min": "1"}})),
            of_policy(
                "@: Forbidden: exactly one policy can be specified, cannot specify \"validValues\" and \"validRange\" at \
                 the same time",
            ),
        ),
        (
            policy(json!({"validValues": ["1"]})),
            of_policy("@.default: Required value: required when validValues is defined"),
        ),
        (
            policy(json!({"default": "3", "validValues": ["2", "1", "11"]})),
            of_policy(
                "[@.validValues[1]: Invalid value: \"1\": values must be sorted in ascending order, @.validValues[2]: \
                 Invalid value: \"11\": option is larger than capacity value: 10, @.validValues: Invalid value: \"3\": \
                 default value is not valid according to the requestPolicy]",
            ),
        ),
        (
            policy(json!({"default": "1", "validRange": {"min": "2", "max": "9", "step": "2"}})),
            of_policy(
                "[@.validRange.default: Invalid value: \"1\": default is less than min: 2, @.validRange.step: Invalid \
                 value: \"1\": value is not a multiple of a given step (2) from (2), @.validRange.step: Invalid value: \
                 \"9\": value is not a multiple of a given step (2) from (2)]",
            ),
        ),
        (
            policy(json!({"default": "2", "validRange": {"min": "2", "step": "0"}})),
            of_policy("@.validRange.step: Invalid value: \"0\": must be greater than zero"),
        ),
    ];
    check(SLICES, &slice(), &cases).await;
    let world = World::new().await;
    world.create(SLICES, slice()).await.unwrap();
    let changes = [
        (spec(json!({"driver": "b"})), "spec.driver: Invalid value: \"b\": field is immutable"),
        (spec(json!({"pool": {"name": "b"}})), "spec.pool.name: Invalid value: \"b\": field is immutable"),
        (spec(json!({"nodeName": "b"})), "spec.nodeName: Invalid value: \"b\": field is immutable"),
    ];
    check_updates(&world, SLICES, "s", &changes).await;
    let changed = world.merge(SLICES, "s", spec(json!({"pool": {"generation": 3}}))).await.unwrap();
    assert_eq!(changed["metadata"]["generation"], 2);
}

#[tokio::test]
async fn what_a_pod_may_not_say_of_its_claims() {
    let pod = json!({"metadata": {"name": "p"}, "spec": {
        "resourceClaims": [{"name": "gpu", "resourceClaimName": "c"}, {"name": "net", "resourceClaimTemplateName": "t"}],
        "containers": [{"name": "a", "image": "i", "resources": {"claims": [{"name": "gpu"}, {"name": "net", "request": "r"}]}}]}});
    let claims = |claims: Value| json!({"spec": {"resourceClaims": claims, "containers": [{"name": "a", "image": "i"}]}});
    let used = |claims: Value| json!({"spec": {"containers": [{"name": "a", "image": "i", "resources": {"claims": claims}}]}});
    let cases = [
        (
            claims(json!([{"name": "gpu"}])),
            "spec.resourceClaims[0]: Invalid value: {\"Name\":\"gpu\",\"ResourceClaimName\":null,\"ResourceClaimTemplateName\":null}: must specify one of: `resourceClaimName`, \
             `resourceClaimTemplateName`",
        ),
        (
            claims(
                json!([{"name": "gpu", "resourceClaimName": "a"}, {"name": "gpu", "resourceClaimName": "b"}]),
            ),
            "spec.resourceClaims[1].name: Duplicate value: \"gpu\"",
        ),
        (
            claims(json!([{"name": "", "resourceClaimName": "a"}])),
            "spec.resourceClaims[0].name: Required value",
        ),
        (
            used(json!([{"name": "other"}])),
            "spec.containers[0].resources.claims[0]: Not found: \"other\": must be one of the names in \
             pod.spec.resourceClaims: gpu, net",
        ),
        (
            used(json!([{"name": "gpu", "request": "r"}, {"name": "gpu"}])),
            "spec.containers[0].resources.claims[1]: Duplicate value: \"gpu\"",
        ),
    ];
    check("pods", &pod, &cases).await;
    let long = patched(&pod, &json!({"metadata": {"name": "p".repeat(250)}}));
    let refused = World::new().await.create("pods", long).await.unwrap_err();
    let why = "-net\": final ResourceClaim name: must be no more than 253 characters";
    assert!(refused.message.ends_with(why), "{}", refused.message);
    let world = World::new().await;
    let mut made = world.create("pods", pod).await.unwrap();
    made["status"]["resourceClaimStatuses"] = json!([{"name": "gone", "resourceClaimName": "c"}]);
    let refused = world.update_part("pods", Part::Status, made.clone()).await.unwrap_err();
    let why = "status.resourceClaimStatuses[0].name: Invalid value: \"gone\": must match the name of an entry in \
               `spec.resourceClaims`";
    assert!(refused.message.ends_with(why), "{}", refused.message);
    made["status"]["resourceClaimStatuses"] = json!([{"name": "net", "resourceClaimName": "p-net-x"}]);
    world.update_part("pods", Part::Status, made).await.unwrap();
}
