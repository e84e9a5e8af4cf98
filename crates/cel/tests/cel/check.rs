//! What the checker says, with the line at fault.

use cel::{DeclType, Env};

fn env() -> Env {
    let inner = DeclType::object("selfType.inner", [("name".to_owned(), DeclType::string(None))]);
    let list = DeclType::list(DeclType::string(None), None);
    let object = DeclType::object(
        "selfType",
        [
            ("replicas".to_owned(), DeclType::int()),
            ("inner".to_owned(), inner),
            ("tags".to_owned(), list),
            ("a-b".to_owned(), DeclType::bool()),
            ("namespace".to_owned(), DeclType::string(None)),
        ],
    );
    Env::new().with_variable("self", object)
}

fn errors(source: &str) -> String {
    env()
        .compile(source)
        .map_or_else(|errors| errors.to_string(), |program| program.result_type().to_string())
}

#[test]
fn errors_show_the_place() {
    let check = |source: &str, expected: &str| assert_eq!(errors(source), expected, "{source}");
    check("self.foo", "ERROR: <input>:1:5: undefined field 'foo'\n | self.foo\n | ....^");
    check(
        "self.replicas > 'a'",
        "ERROR: <input>:1:15: found no matching overload for '_>_' applied to '(int, string)'\n | self.replicas > \
         'a'\n | ..............^",
    );
    check(
        "true &&\n\tother.x",
        "ERROR: <input>:2:2: undeclared reference to 'other' (in container '')\n |  other.x\n | .^",
    );
    check(
        "'é' + 1",
        "ERROR: <input>:1:5: found no matching overload for '_+_' applied to '(string, int)'\n | 'é' + 1\n | \
         .\u{ff0e}..^",
    );
    check(
        "self.inner.name.size(1)",
        "ERROR: <input>:1:21: found no matching overload for 'size' applied to 'string.(int)'\n | \
         self.inner.name.size(1)\n | ....................^",
    );
    check(
        "self.inner == self",
        "ERROR: <input>:1:12: found no matching overload for '_==_' applied to '(selfType.inner, selfType)'\n | \
         self.inner == self\n | ...........^",
    );
    check(
        "self.all(x, true)",
        "ERROR: <input>:1:1: expression of type 'selfType' cannot be range of a comprehension (must be list, map, or \
         dynamic)\n | self.all(x, true)\n | ^",
    );
    check(
        "self.replicas.x",
        "ERROR: <input>:1:14: type 'int' does not support field selection\n | self.replicas.x\n | .............^",
    );
    check(
        "unknown(1)",
        "ERROR: <input>:1:8: undeclared reference to 'unknown' (in container '')\n | unknown(1)\n | .......^",
    );
    check(
        "self.tags + [1]",
        "ERROR: <input>:1:11: found no matching overload for '_+_' applied to '(list(string), list(int))'\n | \
         self.tags + [1]\n | ..........^",
    );
}

#[test]
fn malformed_text_is_refused() {
    let expecting = "{'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, \
                     BYTES, IDENTIFIER}";
    let check = |source: &str, at: u32, expected: &str| {
        let errors = env().compile(source).expect_err(source);
        assert_eq!(
            (errors.errors()[0].column, errors.errors()[0].message.as_str()),
            (at, expected),
            "{source}"
        );
    };
    check("1 +", 3, &format!("Syntax error: mismatched input '<EOF>' expecting {expecting}"));
    check("*a", 0, &format!("Syntax error: extraneous input '*' expecting {expecting}"));
    check("a b", 2, "Syntax error: extraneous input 'b' expecting <EOF>");
    check("a b c", 2, "Syntax error: mismatched input 'b' expecting <EOF>");
    check("(1", 2, "Syntax error: missing ')' at '<EOF>'");
    check("a # b", 2, "Syntax error: token recognition error at: '#'");
    check("'abc", 0, "Syntax error: token recognition error at: ''abc'");
    check("a.true", 2, "Syntax error: mismatched input 'true' expecting IDENTIFIER");
    check("namespace", 0, "reserved identifier: namespace");
    check("a.`b`", 2, "unsupported syntax: '`'");
    check("", 0, &format!("Syntax error: mismatched input '<EOF>' expecting {expecting}"));
}

#[test]
fn property_names_are_escaped() {
    assert_eq!(errors("self.a__dash__b"), "bool");
    assert_eq!(errors("self.__namespace__ == ''"), "bool");
    assert!(errors("self.namespace").contains("undefined field 'namespace'"));
}

#[test]
fn types_are_found() {
    let check = |source: &str, expected: &str| assert_eq!(errors(source), expected, "{source}");
    check("self.tags", "list(string)");
    check("self.tags.map(t, t.size())", "list(int)");
    check("self.tags[0]", "string");
    check("self.?inner.name", "optional_type(string)");
    check("{'a': [1u]}", "map(string, list(uint))");
    check("[]", "list(dyn)");
    check("[] + [1]", "list(int)");
    check("true ? [] : [1]", "list(int)");
    check("type(1)", "type(int)");
    check("dyn(1)", "dyn");
    check("self.tags.transformMap(i, t, t)", "map(int, string)");
    check("null", "null");
    check("self.inner == null", "bool");
    check("self.tags.sortBy(t, t.size())", "list(string)");
    check("optional.of(1).orValue(2)", "int");
    check("timestamp('2020-01-01T00:00:00Z') - duration('1s')", "timestamp");
}

#[test]
fn deep_and_long_texts_are_refused_within_the_stack() {
    let deep =
        |open: &str, close: &str, times: usize| format!("{}1{}", open.repeat(times), close.repeat(times));
    for source in [
        deep("(", ")", 10_000),
        deep("[", "]", 10_000),
        deep("f(", ")", 10_000),
        deep("-(", ")", 10_000),
        deep("{1:", "}", 10_000),
    ] {
        let error = env().compile(&source).expect_err("too deep");
        assert!(
            error.errors()[0].message.contains("recursion limit exceeded"),
            "{}",
            error.errors()[0].message
        );
    }
    let long = "1 + ".repeat(20_000) + "1";
    assert!(env().compile(&long).is_err());
    let wide = "true && ".repeat(10_000) + "true";
    assert!(env().compile(&wide).is_ok());
    let nested = "[1].all(a, ".repeat(60) + "true" + &")".repeat(60);
    assert!(env().compile(&nested).is_ok());
    let optional = "optional.of(1)".to_owned() + &".optMap(a, a)".repeat(40);
    assert!(env().compile(&optional).is_err());
    let error = env().compile(&"a".repeat(100_001)).expect_err("too long");
    assert_eq!(
        error.errors()[0].message,
        "expression code point size exceeds limit: size: 100001, limit 100000"
    );
}
