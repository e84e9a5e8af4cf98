//! JSON by structural schemas.

use apimachinery::field::Path;
use apimachinery::schema::Schema;
use cel::{Activation, Budget, DeclType, Env};
use serde_json::{Value as Json, json};

use crate::show;

fn decl(schema: &Json, root: bool) -> DeclType {
    let schema = Schema::from_crd(&wrap(schema, root), None, &Path::empty()).unwrap();
    if root {
        return DeclType::from_schema(&schema, "selfType", true).unwrap();
    }
    let inner = schema.property("inner").unwrap().schema.get();
    DeclType::from_schema(inner, "selfType", false).unwrap()
}

/// Schemas of definitions are objects.
fn wrap(schema: &Json, root: bool) -> Json {
    if root { schema.clone() } else { json!({"type": "object", "properties": {"inner": schema}}) }
}

/// What a rule gives for a value of a schema, and an older one.
fn run(source: &str, schema: &Json, new: &Json, old: &Json) -> String {
    let decl = decl(schema, schema.get("x-root").is_some());
    let env = Env::new().with_variable("self", decl.clone()).with_variable("oldSelf", decl.clone());
    let program = match env.compile(source) {
        Ok(program) => program,
        Err(errors) => return format!("compile: {}", errors.errors()[0].message),
    };
    let mut activation = Activation::new();
    activation.bind_json("self", new, &decl);
    activation.bind_json("oldSelf", old, &decl);
    match program.evaluate(&activation, &mut Budget::new(cel::OBJECT_BUDGET)) {
        Ok(value) => show(&value),
        Err(error) => format!("error: {error}"),
    }
}

fn check(source: &str, schema: &Json, value: Json, expected: &str) {
    assert_eq!(run(source, schema, &value, &json!(null)), expected, "{source}");
}

#[test]
fn formats_give_types() {
    let schema = json!({"type": "object", "properties": {
        "day": {"type": "string", "format": "date"},
        "at": {"type": "string", "format": "date-time"},
        "for": {"type": "string", "format": "duration"},
        "bytes": {"type": "string", "format": "byte"},
        "any": {"x-kubernetes-int-or-string": true},
        "number": {"type": "number"},
        "null": {"type": "string", "nullable": true},
    }});
    let value = json!({"day": "2020-02-03", "at": "2020-02-03T04:05:06Z", "for": "2h", "bytes": "aGk=", "any": "5%",
                       "number": 1, "null": null});
    check("self.day.getDate() + self.at.getHours()", &schema, value.clone(), "7");
    check("self.__for__ == duration('120m')", &schema, value.clone(), "true");
    check("self.bytes", &schema, value.clone(), "b[104, 105]");
    check("type(self.any) == string ? self.any.endsWith('%') : self.any > 5", &schema, value.clone(), "true");
    check("type(self.any) == int ? self.any > 5 : false", &schema, json!({"any": 6}), "true");
    check("self.number + 0.5", &schema, value.clone(), "1.5");
    check("dyn(self.__null__) == null", &schema, value, "true");
    check(
        "self.at",
        &schema,
        json!({"at": null}),
        "error: invalid data, got null for schema with nullable=false",
    );
}

#[test]
fn lists_are_equal_as_their_type_says() {
    let equal = |schema: &Json, new: Json, old: Json| run("self == oldSelf", schema, &new, &old);
    let set = json!({"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"});
    let atomic = json!({"type": "array", "items": {"type": "string"}});
    let map = json!({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"], "items":
        {"type": "object", "required": ["k"], "properties": {"k": {"type": "string"}, "v": {"type": "integer"}}}});
    assert_eq!(equal(&set, json!(["a", "b"]), json!(["b", "a"])), "true");
    assert_eq!(equal(&set, json!(["a", "b"]), json!(["a", "c"])), "false");
    assert_eq!(equal(&atomic, json!(["a", "b"]), json!(["b", "a"])), "false");
    let (one, other) =
        (json!([{"k": "a", "v": 1}, {"k": "b", "v": 2}]), json!([{"k": "b", "v": 2}, {"k": "a", "v": 1}]));
    assert_eq!(equal(&map, one.clone(), other.clone()), "true");
    assert_eq!(equal(&map, one.clone(), json!([{"k": "b", "v": 3}, {"k": "a", "v": 1}])), "false");
    let joined = |schema: &Json, new: &Json, old: &Json| run("self + oldSelf", schema, new, old);
    assert_eq!(joined(&set, &json!(["a", "b"]), &json!(["b", "c"])), "['a', 'b', 'c']");
    assert_eq!(joined(&atomic, &json!(["a"]), &json!(["a"])), "['a', 'a']");
    let merged =
        run("(self + oldSelf).map(e, e.v)", &map, &one, &json!([{"k": "b", "v": 9}, {"k": "c", "v": 3}]));
    assert_eq!(merged, "[1, 9, 3]");
}

#[test]
fn objects_keep_what_they_do_not_show() {
    let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true,
                        "properties": {"a": {"type": "integer"}, "b": {"x-kubernetes-preserve-unknown-fields": true}}});
    assert_eq!(run("self.b", &schema, &json!({"b": 1}), &json!(null)), "compile: undefined field 'b'");
    assert_eq!(run("self.c", &schema, &json!({"c": 1}), &json!(null)), "compile: undefined field 'c'");
    assert_eq!(
        run("self == oldSelf", &schema, &json!({"a": 1, "c": [1]}), &json!({"a": 1, "c": [1]})),
        "true"
    );
    assert_eq!(
        run("self == oldSelf", &schema, &json!({"a": 1, "c": [1]}), &json!({"a": 1, "c": [2]})),
        "false"
    );
    assert_eq!(run("has(self.a)", &schema, &json!({"c": 1}), &json!(null)), "false");
    let map = json!({"type": "object", "additionalProperties": {"type": "integer"}});
    assert_eq!(
        run("self.all(k, self[k] > 0) && self['x-y'] == 1", &map, &json!({"x-y": 1}), &json!(null)),
        "true"
    );
}

#[test]
fn roots_have_their_names() {
    let schema = json!({"x-root": true, "type": "object", "properties": {"spec": {"type": "object", "properties": {
        "template": {"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true}}}}});
    let value = json!({"apiVersion": "a/v1", "kind": "K", "metadata": {"name": "n", "labels": {}},
                       "spec": {"template": {"kind": "Pod", "metadata": {"name": "m"}}}});
    check("self.metadata.name + self.kind + self.apiVersion", &schema, value.clone(), "'nKa/v1'");
    check("self.spec.template.kind + self.spec.template.metadata.name", &schema, value.clone(), "'Podm'");
    check("self.metadata.labels", &schema, value, "compile: undefined field 'labels'");
}
