//! Rules of definitions in CEL, as users of kubectl meet them. No node: objects only.

use crate::start;

/// A definition of gadgets whose `spec` has this schema, as YAML behind its key.
fn definition(spec: &str) -> String {
    format!(
        "apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {{name: gadgets.example.com}}
spec:
  group: example.com
  scope: Namespaced
  names: {{plural: gadgets, kind: Gadget}}
  versions:
  - name: v1
    served: true
    storage: true
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec: {spec}
"
    )
}

const RULED: &str = r#"{type: object, required: [min, max], x-kubernetes-validations: [
            {rule: "self.min <= self.max", messageExpression: "'%d is above %d'.format([self.min, self.max])"},
            {rule: "self.max <= 10 || self.approved", message: more than ten needs approval, reason: FieldValueForbidden,
             fieldPath: .approved}],
            properties: {min: {type: integer}, max: {type: integer}, approved: {type: boolean, default: false},
              class: {type: string, maxLength: 9, x-kubernetes-validations: [
                {rule: "self == oldSelf", message: class is immutable}]}}}"#;

fn gadget(spec: &str) -> String {
    format!("apiVersion: example.com/v1\nkind: Gadget\nmetadata: {{name: g}}\nspec: {spec}\n")
}

#[test]
fn rules_speak_through_kubectl() {
    let plane = start(&["--disable", "node,edge"]);
    let apply = |text: &str| plane.kubectl_with(&["apply", "-f", "-"], text);
    let refused = |text: &str| {
        let tried = apply(text);
        assert!(!tried.err.is_empty(), "{text} was taken: {}", tried.out);
        tried.err
    };

    // What is wrong with a definition is said when it is written, at the place.
    let misspelt = RULED.replace("self.min <= self.max", "self.mni <= self.max");
    let said = refused(&definition(&misspelt));
    let at =
        "spec.validation.openAPIV3Schema.properties[spec].x-kubernetes-validations[0].rule: Invalid value: ";
    assert!(said.contains("The CustomResourceDefinition \"gadgets.example.com\" is invalid: "), "{said}");
    assert!(said.contains(at), "{said}");
    let why =
        "compilation failed: ERROR: <input>:1:5: undefined field 'mni'\n | self.mni <= self.max\n | ....^";
    assert!(said.contains(why), "{said}");
    let dear = r#"{type: object, properties: {names: {type: array, items: {type: string},
            x-kubernetes-validations: [{rule: "self.all(a, self.exists_one(b, a == b))"}]}}}"#;
    let said = refused(&definition(dear));
    assert!(
        said.contains("Forbidden: estimated rule cost exceeds budget by factor of more than 100x"),
        "{said}"
    );

    plane.apply(&definition(RULED));
    plane.kubectl_ok(&["wait", "--for=condition=Established", "crd/gadgets.example.com", "--timeout=20s"]);
    assert_eq!(
        refused(&gadget("{min: 3, max: 2}")),
        "The Gadget \"g\" is invalid: spec: Invalid value: 3 is above 2\n"
    );
    assert_eq!(
        refused(&gadget("{min: 30, max: 20}")),
        "The Gadget \"g\" is invalid: \n* spec: Invalid value: 30 is above 20\n* spec.approved: Forbidden: more than ten \
         needs approval\n"
    );
    assert_eq!(
        refused(&gadget("{min: 3}")),
        "The Gadget \"g\" is invalid: \n* spec.max: Required value\n* <nil>: Invalid value: \"null\": some validation rules \
         were not checked because the object was invalid; correct the existing errors to complete validation\n"
    );
    plane.apply(&gadget("{min: 1, max: 2, class: a}"));
    assert_eq!(
        refused(&gadget("{min: 1, max: 2, class: b}")),
        "The Gadget \"g\" is invalid: spec.class: Invalid value: \"b\": class is immutable\n"
    );

    // A rule that comes later does not stand in the way of other changes.
    let stricter = RULED.replace(
        "max: {type: integer}",
        "max: {type: integer, x-kubernetes-validations: [{rule: self > 5}]}",
    );
    plane.apply(&definition(&stricter));
    harness::eventually("the rule is in force", || {
        plane
            .kubectl_with(
                &["create", "--dry-run=server", "-f", "-"],
                &gadget("{min: 1, max: 2}").replace("name: g", "name: h"),
            )
            .err
            .contains("spec.max: Invalid value: 2: failed rule: self > 5")
            .then_some(())
    });
    let changed = plane.kubectl(&["patch", "gadget", "g", "--type=merge", "-p", r#"{"spec": {"min": 0}}"#]);
    assert_eq!(changed.out, "gadget.example.com/g patched\n");
    assert_eq!(changed.err, "Warning: spec.max: Invalid value: 2: failed rule: self > 5\n");
    let said = plane.kubectl(&["patch", "gadget", "g", "--type=merge", "-p", r#"{"spec": {"max": 3}}"#]).err;
    assert_eq!(said, "The Gadget \"g\" is invalid: spec.max: Invalid value: 3: failed rule: self > 5\n");
}
