//! The language.

use serde_json::json;

use crate::{check, run};

#[test]
fn literals() {
    check("null", "null");
    check("0x1F + 1", "32");
    check("-9223372036854775808", "-9223372036854775808");
    check("9223372036854775808", "compile: invalid int literal");
    check("42u", "42u");
    check("0xFFu", "255u");
    check("1.5e3", "1500.0");
    check(".5", "0.5");
    check(r#"'it\'s' + "\x41\u00e9\101""#, "'it's\u{41}\u{e9}A'");
    check(r"r'\n'", r"'\n'");
    check("'''a\nb'''", "'a\nb'");
    check(r"b'\xff\001'", "b[255, 1]");
    check("br'a'", "b[97]");
    check("[1, 2,]", "[1, 2]");
    check("{'a': 1}.a", "1");
    check("// comment\n1 + // more\n1", "2");
}

#[test]
fn arithmetic() {
    check("1 + 2 * 3 - 4 / 2 % 3", "5");
    check("-(1 + 2)", "-3");
    check("--1", "1");
    check("7 / -2", "-3");
    check("-7 % 3", "-1");
    check("1 / 0", "error: division by zero");
    check("1 % 0", "error: modulus by zero");
    check("1.0 / 0.0", "inf");
    check("9223372036854775807 + 1", "error: integer overflow");
    check("-(-9223372036854775807 - 1)", "error: integer overflow");
    check("(-9223372036854775807 - 1) / -1", "error: integer overflow");
    check("0u - 1u", "error: unsigned integer overflow");
    check("'a' + 'b'", "'ab'");
    check("b'a' + b'b'", "b[97, 98]");
    check("[1] + [2, 3]", "[1, 2, 3]");
    check("1 + 1u", "compile: found no matching overload for '_+_' applied to '(int, uint)'");
}

#[test]
fn comparisons() {
    check("1 < 2 && 2u < 3u && 'a' < 'b' && b'a' < b'b' && false < true", "true");
    check("1 < 1.5 && 2u > 1 && 1 <= 1u", "true");
    check("9223372036854775807 < 9223372036854775808u", "true");
    check("dyn(1) == 1u && dyn(1.0) == 1", "true");
    check("dyn('1') == 1", "false");
    check("1 == 1.0", "compile: found no matching overload for '_==_' applied to '(int, double)'");
    check("[1, 2] == [1, 2] && [1] != [2]", "true");
    check("{'a': [1]} == {'a': [1]}", "true");
    check(
        "{1: 'a'} == {1u: 'a'}",
        "compile: found no matching overload for '_==_' applied to '(map(int, string), map(uint, string))'",
    );
    check("double('NaN') == double('NaN')", "false");
    check("double('NaN') < 1.0", "error: NaN values cannot be ordered");
    check("null == null", "true");
}

#[test]
fn logic_absorbs_errors() {
    check("1 / 0 == 1 || true", "true");
    check("true || 1 / 0 == 1", "true");
    check("1 / 0 == 1 && false", "false");
    check("false && 1 / 0 == 1", "false");
    check("1 / 0 == 1 || false", "error: division by zero");
    check("true && 1 / 0 == 1", "error: division by zero");
    check("!true", "false");
    check("!!true", "true");
    check("true ? 1 : 1 / 0", "1");
    check("false ? 1 / 0 : 2", "2");
    check("1 / 0 == 1 ? 1 : 2", "error: division by zero");
    check("false ? 1 : true ? 2 : 3", "2");
    check("1 || true", "compile: expected type 'bool' but found 'int'");
}

#[test]
fn lists_and_maps() {
    check("[1, 2, 3][1]", "2");
    check("[1][1]", "error: index out of bounds: 1");
    check("[1][-1]", "error: index out of bounds: -1");
    check("{'a': 1}['b']", "error: no such key: b");
    check("{'a': 1}.b", "error: no such key: b");
    check("{1: 'a', 2u: 'b'}", "compile: expected type 'int' but found 'uint'");
    check("{dyn(1): 'a'}[1u]", "'a'");
    check("2 in [1, 2] && !(3 in [1, 2]) && 'a' in {'a': 1}", "true");
    check("size([1, 2]) + {'a': 1}.size() + 'é'.size() + size(b'abc')", "7");
    check("has({'a': 1}.a) && !has({'a': 1}.b)", "true");
    check("[1, 'a']", "compile: expected type 'int' but found 'string'");
    check("[dyn(1), 'a']", "compile: expected type 'dyn' but found 'string'");
    check("[dyn(1), dyn('a')]", "[1, 'a']");
    check("{1.5: 'a'}", "error: unsupported key type: double");
}

#[test]
fn macros() {
    check("[1, 2, 3].all(n, n > 0)", "true");
    check("[].all(n, n > 0)", "true");
    check("[1, 2, 3].exists(n, n > 2)", "true");
    check("[1, 2, 2].exists_one(n, n == 2)", "false");
    check("[1, 2, 3].map(n, n * n)", "[1, 4, 9]");
    check("[1, 2, 3].map(n, n > 1, n * n)", "[4, 9]");
    check("[1, 2, 3].filter(n, n % 2 == 1)", "[1, 3]");
    check("{'a': 1, 'b': 2}.filter(k, k == 'b')", "['b']");
    check("[0, 1].all(n, 1 / n > 5)", "false");
    check("[1, 0].exists(n, 1 / n == 1)", "true");
    check("[0, 2].exists(n, 1 / n == 1)", "error: division by zero");
    check("[[1, 2], [3]].map(l, l.map(n, n + 1))", "[[2, 3], [4]]");
    check("[1].map(n, [2].map(n, n))", "[[2]]");
    check("[1, 2].all(i, v, i + 1 == v)", "true");
    check("{'a': 1}.exists(k, v, k == 'a' && v == 1)", "true");
    check("[5, 6].existsOne(i, v, i == 1 && v == 6)", "true");
    check("[1, 2, 3].transformList(i, v, i > 0, i * v)", "[2, 6]");
    check("{'a': 1, 'b': 2}.transformMap(k, v, v > 1, v * 10) == {'b': 20}", "true");
    check("['a', 'b'].transformMapEntry(i, v, {v: i}) == {'a': 0, 'b': 1}", "true");
    check("['a', 'a'].transformMapEntry(i, v, {v: i})", "error: insert failed: key a already exists");
    check("[1].all(1, true)", "compile: argument must be a simple name");
    check("[1].all(i, i, true)", "compile: duplicate variable name: i");
    check(
        "1.all(n, true)",
        "compile: expression of type 'int' cannot be range of a comprehension (must be list, map, or dynamic)",
    );
    check("has(1)", "compile: invalid argument to has() macro");
}

#[test]
fn optional_values() {
    check("{'a': 1}.?a", "some(1)");
    check("{'a': 1}.?b", "none");
    check("{'a': {'b': 1}}.?a.b", "some(1)");
    check("{'a': {'b': 1}}.?x.b.orValue(7)", "7");
    check("[1, 2][?1].value()", "2");
    check("[1, 2][?5].hasValue()", "false");
    check("optional.none().value()", "error: optional.none() dereference");
    check("optional.of(1).or(optional.of(2))", "some(1)");
    check("optional.none().or(optional.of(2))", "some(2)");
    check("optional.ofNonZeroValue('')", "none");
    check("optional.of(3).optMap(n, n + 1)", "some(4)");
    check("optional.none().optMap(n, n + 1)", "none");
    check("{'a': {'b': 2}}.?a.optFlatMap(m, m.?b)", "some(2)");
    check("[?{'a': 1}.?a, ?{'a': 1}.?b, 3]", "[1, 3]");
    check("{?'k': {'a': 1}.?b}.size()", "0");
    check("[1, 2].first()", "some(1)");
    check("[].last()", "none");
    check("[optional.of(1), optional.none()].unwrapOpt()", "[1]");
    check("optional.of(1) == optional.of(1) && optional.none() != optional.of(1)", "true");
}

#[test]
fn conversions() {
    check("int('42') + int(1.9) + int(2u)", "45");
    check("int('x')", "error: type conversion error from 'string' to 'int'");
    check("int(1e99)", "error: integer overflow");
    check("uint(-1)", "error: unsigned integer overflow");
    check("double('1.5') + double(1)", "2.5");
    check("string(1.0) + string(1.5e10) + string(0.00001) + string(true)", "'11.5e+101e-05true'");
    check("string(b'\\xff')", "error: invalid UTF-8 in bytes, cannot convert to string");
    check("bytes('é')", "b[195, 169]");
    check("bool('true') && !bool('0')", "true");
    check("type(1) == int && type('') == string && type(type(1)) == type", "true");
    check("type(null) == null_type && type([]) == list && type({}) == map", "true");
    check("type(duration('1s')) == google.protobuf.Duration", "true");
    check(
        "string(duration('90s')) + string(timestamp('2020-01-02T03:04:05.5Z'))",
        "'90s2020-01-02T03:04:05.5Z'",
    );
}

#[test]
fn time() {
    check("duration('1h') + duration('30m')", "5400000000000ns");
    check("duration('x')", "compile: invalid duration argument");
    check("timestamp('2020-01-01T00:00:00Z') + duration('24h')", "2020-01-02T00:00:00Z");
    check("timestamp('2020-01-02T00:00:00Z') - timestamp('2020-01-01T00:00:00Z')", "86400000000000ns");
    check("timestamp('nonsense')", "compile: invalid timestamp argument");
    let at = "timestamp('2023-12-25T10:20:30.456Z')";
    for (call, expected) in [
        ("getFullYear()", "2023"),
        ("getMonth()", "11"),
        ("getDate()", "25"),
        ("getDayOfMonth()", "24"),
        ("getDayOfWeek()", "1"),
        ("getDayOfYear()", "358"),
        ("getHours()", "10"),
        ("getHours('America/New_York')", "5"),
        ("getHours('+02:00')", "12"),
        ("getMinutes('-05:30')", "50"),
        ("getSeconds()", "30"),
        ("getMilliseconds()", "456"),
    ] {
        check(&format!("{at}.{call}"), expected);
    }
    check("duration('90m').getHours() + duration('90m').getMinutes()", "91");
    check(
        "timestamp('2020-01-01T00:00:00Z').getHours('Nowhere/City')",
        "error: unknown time zone Nowhere/City",
    );
    check("duration('2562047h') + duration('2562047h')", "error: duration overflow");
}

#[test]
fn dynamic_values_are_checked_when_they_are_used() {
    let x = json!({"a": 1, "b": ["p", "q"], "c": null, "d": {"e.f": true}, "g": 1.5});
    let check = |source: &str, expected: &str| assert_eq!(run(source, &x), expected, "{source}");
    check("x.a + 1", "2");
    check("x.a + 'b'", "error: no such overload");
    check("x.b[1] + 'r'", "'qr'");
    check("x.c == null", "true");
    check("x.d['e.f']", "true");
    check("x.g", "1.5");
    check("x.h", "error: no such key: h");
    check("has(x.h) || has(x.a)", "true");
    check("x.b.exists(s, s == 'q')", "true");
    check("x.?d['e.f'].orValue(false)", "true");
    check("x.a.b", "error: no such overload");
    check("x.map(k, k)", "['a', 'b', 'c', 'd', 'g']");
    check("x == {'a': 1}", "false");
}
