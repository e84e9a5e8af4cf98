//! Whatever the text: no panic, and no more cost than was said.

use cel::{Activation, Budget, DeclType, Env, EvalError, Value};
use proptest::prelude::*;

/// Expressions of a type, mostly well-formed.
fn number() -> BoxedStrategy<String> {
    let leaf = prop_oneof![
        (0i64..100).prop_map(|n| n.to_string()),
        Just("size(words)".to_owned()),
        Just("word.size()".to_owned()),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            (inner.clone(), "[-+*/%]", inner.clone()).prop_map(|(a, sign, b)| format!("({a} {sign} {b})")),
            (truth_of(inner.clone()), inner.clone(), inner.clone())
                .prop_map(|(c, a, b)| format!("({c} ? {a} : {b})")),
            inner.clone().prop_map(|a| format!("[{a}, 1][0]")),
            inner.clone().prop_map(|a| format!("[{a}].map(n, n + 1).size()")),
            inner.clone().prop_map(|a| format!("{{'k': {a}}}.?k.orValue(0)")),
            inner.prop_map(|a| format!("optional.of({a}).optMap(n, n * 2).orValue(1)")),
        ]
    })
    .boxed()
}

fn truth_of(number: impl Strategy<Value = String> + Clone + 'static) -> BoxedStrategy<String> {
    prop_oneof![
        (number.clone(), "(<|<=|==|!=|>)", number.clone()).prop_map(|(a, sign, b)| format!("{a} {sign} {b}")),
        number.clone().prop_map(|a| format!("words.all(w, w.size() > {a})")),
        number.clone().prop_map(|a| format!("words.exists(w, w.contains('a') && {a} > 3)")),
        number.clone().prop_map(|a| format!("words.filter(w, w == word).size() == {a}")),
        number.prop_map(|a| format!("words.map(w, w + word).join(',').startsWith(string({a}))")),
        Just("word.matches('^a+b')".to_owned()),
        Just("words.isSorted() || word in words".to_owned()),
        Just("word.replace('a', 'bb').lowerAscii() == word".to_owned()),
        Just("words.sort() == words.distinct()".to_owned()),
        Just("sets.contains(words, [word])".to_owned()),
        Just("words.map(w, w.size()).sum() > words.map(w, w.size()).max()".to_owned()),
        Just("words.sortBy(w, w.size()).reverse() == words.filter(w, w.size() > 1)".to_owned()),
        Just("(words + words).distinct().size() > 2".to_owned()),
        Just("'%s'.format([word]).find('a.*b') == word".to_owned()),
        Just("words.transformMap(i, w, w.size()).exists(k, v, k == v)".to_owned()),
        Just(
            "words.all(w, w.indexOf('a') >= 0 ? w.charAt(0) == 'a' : w.substring(0, w.size()) == w)"
                .to_owned()
        ),
        Just("string(bytes(word)) == word && strings.quote(word).size() > 2".to_owned()),
        Just("isQuantity(word) || isIP(word) || isCIDR(word) || isURL(word) || isSemver(word)".to_owned()),
        Just("words.?first().orValue('').size() > 0".to_owned().replace(".?first()", "[?0]")),
        Just("format.dns1123Label().validate(word).hasValue()".to_owned()),
        Just("words.transformList(i, w, w + string(i)).exists(w, w.endsWith('1'))".to_owned()),
        Just("words.all(w, words.exists(v, v == w))".to_owned()),
        Just("word.split('a').all(w, w.trim().find('b') == '')".to_owned()),
    ]
    .boxed()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases * 2, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,60}") {
        let _ = Env::new().with_variable("x", DeclType::dynamic()).compile(&text);
    }

    #[test]
    fn any_tokens_are_read_or_refused(tokens in prop::collection::vec("(x|1|'a'|\\.|\\[|\\]|\\(|\\)|\\{|\\}|,|:|\\?|\\+|-|!|&&|==|in|has|all|map|\\.all\\(|size|null|optional)", 0..25)) {
        let text = tokens.join(" ");
        let env = Env::new().with_variable("x", DeclType::dynamic());
        if let Ok(program) = env.compile(&text) {
            let mut activation = Activation::new();
            let json = serde_json::json!({"a": [1, "b", null]});
            activation.bind("x", Value::dynamic(&json).unwrap());
            let _ = program.evaluate(&activation, &mut Budget::new(100_000));
        }
    }

    #[test]
    fn costs_keep_to_their_bounds(
        truth in truth_of(number()),
        words in prop::collection::vec("[ab]{0,12}", 0..8),
        word in "[ab]{0,12}",
    ) {
        let list = DeclType::list(DeclType::string(Some(12)), Some(8));
        let env = Env::new().with_variable("words", list.clone()).with_variable("word", DeclType::string(Some(12)));
        let program = env.compile(&truth).unwrap_or_else(|errors| panic!("{truth}: {errors}"));
        let json = serde_json::json!(words);
        let mut activation = Activation::new();
        activation.bind_json("words", &json, &list);
        activation.bind("word", Value::from(word.as_str()));
        let mut budget = Budget::new(cel::OBJECT_BUDGET);
        let result = program.evaluate(&activation, &mut budget);
        prop_assert!(!matches!(result, Err(EvalError::NoSuchOverload(_))), "{truth}: {result:?}");
        let cost = cel::OBJECT_BUDGET - budget.remaining();
        prop_assert!(cost <= program.cost().max, "{truth} cost {cost}, not {:?}", program.cost());
    }
}
