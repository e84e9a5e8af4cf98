//! What is twice in what comes next, again and again, is there once: neither checking nor evaluating goes through all of it.

use cel::{Activation, Budget, Env, EvalError, OBJECT_BUDGET};

const LEVELS: usize = 36;

/// `seed` under a name, and twice in the next one, and so on; then `last`, of the last.
fn doubled(seed: &str, twice: &str, last: &str) -> String {
    let name = |level: usize| format!("v{level}");
    let mut source = format!("dyn({}) == 1", last.replace('V', &name(LEVELS)));
    for level in (1..=LEVELS).rev() {
        source = format!("[{}].exists({}, {source})", twice.replace('V', &name(level - 1)), name(level));
    }
    format!("[{seed}].exists(v0, {source})")
}

/// What becomes of it: a value, an error, or that it is not to be compiled.
fn outcome(source: &str) -> Option<Result<&'static str, EvalError>> {
    let program = Env::new().compile(source).ok()?;
    let result = program.evaluate(&Activation::new(), &mut Budget::new(OBJECT_BUDGET));
    Some(result.map(|value| value.type_name()))
}

fn is_bounded(seed: &str, twice: &str, last: &str) {
    let result = outcome(&doubled(seed, twice, last));
    assert!(!matches!(result, Some(Err(EvalError::OutOfBudget))), "{twice} {last}: {result:?}");
}

#[test]
fn lists_one_after_the_other() {
    for last in [
        "size(V)",
        "V[0]",
        "V[7] + V[99]",
        "V == V",
        "1 in V",
        "3 in V",
        "V.sum()",
        "V.max()",
        "V.isSorted()",
        "V.reverse()[0]",
        "V.sort()[0]",
        "V.distinct()[0]",
        "V.indexOf(2)",
        "V.lastIndexOf(2)",
        "V.slice(1, 3)",
        "V.all(x, x > 0)",
        "V.exists(x, x == 3)",
        "V.map(x, x)[0]",
        "V.filter(x, x > 5).size()",
        "'%s'.format([V])",
        "sets.contains(V, V)",
        "V.sortBy(x, x)[0]",
        "[V].flatten()[0]",
        "V.transformMap(i, x, x).size()",
        "V.first()",
        "V.last()",
    ] {
        is_bounded("[1, 2]", "V + V", last);
        is_bounded("dyn([1, 2])", "V + V", last);
    }
    let length = outcome(&doubled("[1, 2]", "V + V", "size(V)"));
    // Beyond some depth they are put into one list, for which there is no place.
    assert_eq!(length, Some(Err(EvalError::CallLimit)));
    let many: Vec<String> = (0..50).map(|number| format!("[{number}]")).collect();
    super::check(&format!("({})[47]", many.join(" + ")), "47");
}

#[test]
fn lists_in_lists() {
    for last in [
        "size(V)",
        "V == V",
        "dyn(V).indexOf(1)",
        "dyn(V).max()",
        "dyn(V).flatten(50)",
        "'%s'.format([V])",
        "type(V)",
        "V + 1",
    ] {
        is_bounded("[1]", "[V, V]", last);
    }
    is_bounded("dyn([])", "dyn([V, V])", "dyn(V).indexOf(1)");
}

#[test]
fn maps_in_maps() {
    for last in ["size(V)", "'%s'.format([V])", "V + 1"] {
        is_bounded("{'a': 1}", "{'a': V, 'b': V}", last);
        is_bounded("{1: 1}", "{V: V}", last);
        is_bounded("{1: 1}", "optional.of({V: V})", last);
    }
    is_bounded("{'a': 1}", "{'a': V, 'b': V}", "V == V");
}

#[test]
fn texts() {
    for last in [
        "size(V)",
        "V == V",
        "V.replace('a', 'bb')",
        "V.split('')",
        "V + V",
        "bytes(V)",
        "V.matches('(a|b)*c')",
    ] {
        is_bounded("'ab'", "V + V", last);
    }
}

#[test]
fn sums_of_many_lists() {
    for source in [
        "lists.range(50000).map(x, dyn([x])).sum()",
        "dyn(lists.range(50000).map(x, [x])).sum().size()",
        "lists.range(20000).map(x, dyn('x')).sum()",
    ] {
        let result = outcome(source);
        assert!(result.is_some(), "{source}");
    }
}
