//! Bounds of costs, to the unit: the figures are those that upstream promises to keep (`TestCostEstimation` of
//! apiextensions-apiserver), each without limits in the schema and with them.

use apimachinery::field::Path;
use apimachinery::schema::Schema;
use cel::{Activation, Budget, DeclType, Env, EvalError, Value};
use serde_json::{Value as Json, json};

fn cost(rule: &str, schema: &Json) -> u64 {
    let root = json!({"type": "object", "properties": {"inner": schema}});
    let root = Schema::from_crd(&root, None, &Path::empty()).unwrap();
    let inner = root.property("inner").unwrap().schema.get();
    let decl = DeclType::from_schema(inner, "selfType", false).unwrap();
    let env = Env::new().with_variable("self", decl.clone()).with_variable("oldSelf", decl);
    env.compile(rule).unwrap_or_else(|errors| panic!("{rule}: {errors}")).cost().max
}

/// The schema of a kind of items, with a limit where one is given.
fn primitive(kind: &str) -> Json {
    match kind {
        "int-or-string" => json!({"x-kubernetes-int-or-string": true}),
        "date" | "date-time" | "duration" | "byte" => json!({"type": "string", "format": kind}),
        kind => json!({"type": kind}),
    }
}

fn limited(mut schema: Json, limit: &str, most: Option<u64>) -> Json {
    if let Some(most) = most {
        schema[limit] = most.into();
    }
    schema
}

fn list(items: Json, most: Option<u64>) -> Json {
    limited(json!({"type": "array", "items": items}), "maxItems", most)
}

fn map(values: Json, most: Option<u64>) -> Json {
    limited(json!({"type": "object", "additionalProperties": values}), "maxProperties", most)
}

fn check(rule: &str, make: impl Fn(Option<u64>) -> Json, unlimited: u64, most: u64, expected: u64) {
    assert_eq!(cost(rule, &make(None)), unlimited, "{rule}");
    assert_eq!(cost(rule, &make(Some(most))), expected, "{rule}, at most {most}");
}

#[test]
fn lists() {
    let of = |kind: &'static str| move |most| list(primitive(kind), most);
    check("self.all(x, true)", of("number"), 4_718_591, 10, 32);
    check("self.all(x, true)", of("string"), 3_145_727, 20, 62);
    check("self.all(x, true)", of("boolean"), 1_887_437, 5, 17);
    check("self.all(x, true)", of("duration"), 2_359_295, 5, 17);
    check("self.all(x, true)", of("date"), 725_936, 15, 47);
    check("self.all(x, true)", of("date-time"), 428_963, 25, 77);
    check("self.all(x, true)", of("int-or-string"), 4_718_591, 10, 32);
    check("self[1] == 0.0", of("number"), 2, 5_000, 2);
    check("self[1] == self[1]", of("string"), 314_577, 8, 314_577);
    check("self[0] == 5", of("int-or-string"), 3, 10, 3);
    check("self[0] == false", of("boolean"), 2, 25, 2);
    check("self[0].getHours() == 2", of("duration"), 4, 525, 4);
    check("self[2].getMinutes() == 45", of("date-time"), 4, 99, 4);
    check("self.all(x, x == 0.0)", of("number"), 6_291_454, 3 * 1024 * 2048, 25_165_826);
    let nested = |most| list(list(primitive("number"), most), most);
    check("self.all(x, true)", nested, 3_145_727, 100, 302);
    check("self[0][0] == -1.0", nested, 3, 51, 3);
    let of_numbers = of("number");
    assert_eq!(cost("self.all(x, self.all(y, true))", &of_numbers(Some(10))), 352);
    assert_eq!(cost("self.all(x, self.all(y, self.all(z, true)))", &of_numbers(Some(10))), 3_552);
    assert!(cost("self.all(x, self.all(y, true))", &of_numbers(None)) > 10_000_000);
}

#[test]
fn maps() {
    let of = |kind: &'static str| move |most| map(primitive(kind), most);
    check("self.all(x, true)", of("number"), 1_348_169, 10, 32);
    check("self.all(x, true)", of("string"), 1_179_647, 3, 11);
    check("self.all(x, true)", of("boolean"), 943_718, 100, 302);
    check("self.all(x, true)", of("int-or-string"), 1_348_169, 15, 47);
    check("self.all(x, true)", of("duration"), 1_048_577, 5, 17);
    check("self.all(x, true)", of("date"), 524_288, 10, 32);
    check("self.all(x, true)", of("date-time"), 349_526, 25, 77);
    check("has(self.x)", of("number"), 1, 100, 1);
    check("self[\"x\"] == 0.0", of("number"), 2, 0, 2);
    check("oldSelf.size() == self.size()", of("integer"), 5, 10, 5);
    check("self[\"a\"] == self[\"b\"]", of("date-time"), 8, 7, 8);
    check("self[\"c\"] == self[\"d\"]", of("duration"), 8, 42, 8);
    check("self.all(x, true)", |most| map(map(primitive("number"), most), most), 1_179_647, 10, 32);
    check(
        "self.all(x, x.contains(self[x]))",
        |most| map(limited(primitive("string"), "maxLength", most), most),
        2_752_507,
        10,
        72,
    );
}

#[test]
fn texts() {
    let of = |most| limited(primitive("string"), "maxLength", most);
    check("self.contains('test')", of, 314_574, 10, 5);
    check("self.startsWith('test')", of, 2, 15, 2);
    check("self.endsWith('test')", of, 2, 30, 2);
    check("size(self + \"hello\") > size(\"hello\")", of, 314_578, 4, 7);
    check("self.matches(\"x\")", of, 314_574, 50, 22);
    check("\"\".matches(\"(((((((((())))))))))[0-9]\")", of, 7, 10, 7);
    check("self.matches(\"\")", of, 1, 100, 1);
    check("self == \"x\"", of, 2, 0, 1);
    check("self == b\"x\"", |most| limited(primitive("byte"), "maxLength", most), 2, 0, 1);
    check("self.find('[0-9]+') == ''", of, 629_147, 10, 11);
    check("self.lowerAscii() == 'lower!'", of, 314_575, 10, 6);
    let texts = |most| list(limited(primitive("string"), "maxLength", most), most);
    check("self.join(' ') == 'aa bb'", texts, 329_853_068_905, 10, 43);
    check("self.isSorted() == true", texts, 329_854_432_052, 10, 52);
    let replaced = |most| {
        json!({"type": "object", "properties": {
            "str": limited(primitive("string"), "maxLength", most),
            "before": limited(primitive("string"), "maxLength", Some(2)),
            "after": limited(primitive("string"), "maxLength", Some(4)),
        }})
    };
    check("self.str.replace(self.before, self.after) == 'does not matter'", replaced, 629_154, 4, 12);
    let split = |most| {
        let text = limited(primitive("string"), "maxLength", most);
        json!({"type": "object", "properties": {"str": text.clone(), "separator": text}})
    };
    check("self.str.split(self.separator) == []", split, 629_160, 10, 22);
    let known =
        |most| limited(json!({"type": "string", "enum": ["A", "B", "C", "LongValue"]}), "maxLength", most);
    check("self.contains('A')", known, 2, 1_000, 401);
    check("isQuantity(self)", |most| limited(primitive("int-or-string"), "maxLength", most), 314_574, 20, 9);
}

#[test]
fn counts_stay_within_budgets() {
    let items: Vec<Json> = (0..2_000).map(Json::from).collect();
    let (json, list) = (Json::from(items), DeclType::list(DeclType::int(), None));
    let env = Env::new().with_variable("self", list.clone());
    let mut activation = Activation::new();
    activation.bind_json("self", &json, &list);
    let run = |source: &str, budget: &mut Budget| {
        env.compile(source).unwrap().evaluate(&activation, budget).map(|value| value.as_bool())
    };
    let mut budget = Budget::new(cel::OBJECT_BUDGET);
    assert_eq!(run("self.all(x, x >= 0)", &mut budget), Ok(Some(true)));
    let once = cel::OBJECT_BUDGET - budget.remaining();
    assert!((8_000..20_000).contains(&once), "{once}");
    assert_eq!(run("self.all(x, self.exists(y, y == x))", &mut budget), Err(EvalError::CallLimit));
    let mut scarce = Budget::new(once - 1);
    assert_eq!(run("self.all(x, x >= 0)", &mut scarce), Err(EvalError::OutOfBudget));
    assert_eq!(scarce.remaining(), 0);
}

#[test]
fn collecting_costs_as_much_as_is_written() {
    let env = Env::new();
    for (source, expected) in [
        ("[1, 2].map(x, x)", 10 + 10 + 2 * (1 + 10 + 1 + 1) + 1),
        ("[1, 2].filter(x, x > 1)", 10 + 10 + (1 + 1 + 13) + (1 + 1 + 1) + 1),
        ("1 + 1", 1),
        ("'aaaaaaaaaaa' == 'b'", 1),
        ("{'a': 1}.a", 31),
        ("[1][0]", 11),
    ] {
        let mut budget = Budget::new(cel::OBJECT_BUDGET);
        env.compile(source).unwrap().evaluate(&Activation::new(), &mut budget).unwrap();
        assert_eq!(cel::OBJECT_BUDGET - budget.remaining(), expected, "{source}");
    }
}

#[test]
fn what_costs_little_is_bounded_all_the_same() {
    let big = Value::from("a".repeat(1 << 20));
    let items: Vec<Value<'_>> = (0..100_000).map(Value::from).collect();
    let env =
        Env::new().with_variable("text", DeclType::dynamic()).with_variable("list", DeclType::dynamic());
    let mut activation = Activation::new();
    activation.bind("text", big);
    activation.bind("list", items.into());
    for source in [
        "list.all(x, text == text)",
        "list.all(x, size(text) > 0)",
        "list.all(x, ('x' + string(x)).matches('(' + string(x) + 'a{90}b{90}){50}') || true)",
        "list.all(x, list + list != [])",
        "list.all(x, list.distinct().size() > 0)",
        "list.all(x, text.replace('a', text) == '')",
        "list.all(x, list.map(y, y).size() > 0)",
        "lists.range(9223372036854775807).size() > 0",
        "list.all(x, list == list)",
    ] {
        let result = env.compile(source).unwrap().evaluate(&activation, &mut Budget::new(cel::OBJECT_BUDGET));
        assert!(matches!(result, Err(EvalError::CallLimit)), "{source}: {result:?}");
    }
}
