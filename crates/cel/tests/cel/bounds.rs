//! Whatever the text: no panic, and no more cost than was said.

use cel::{Activation, Budget, DeclType, Env, EvalError, Value};
use proptest::prelude::*;

/// Expressions to be cut and put together anew.
const WHOLE: [&str; 24] = [
    "self.a > 1 && self.s.matches('^a.*') || self.l.all(x, x.size() > 0)",
    "self.o.exists(e, e.k == 'a' && e.v + 1 == 2) ? self.m.transformMap(k, v, v > 1.0, v) : {}",
    "self.?s.optMap(x, x.split('').sort().join(',')).orValue('%s'.format([self.a]))",
    "sets.contains(self.l, ['x']) && duration('1h') + duration('2m') > duration('0s')",
    "quantity('1Gi').add(quantity('1M')).isGreaterThan(quantity('5'))",
    "cidr('10.0.0.0/8').containsIP(ip('10.1.1.1')) && string(cidr('::/0').masked()) == '::/0'",
    "url('https://a:80/b?c=d').getQuery()['c'][0] + url('/x').getPort()",
    "[1, 2, 3].map(x, x * 2).filter(y, y > 2).exists_one(z, z == 4)",
    "self.l.sortBy(x, x.size()).reverse().slice(0, 2).distinct().flatten()",
    "{'k': [1u, 2u], 'j': []}.transformMapEntry(k, v, {v.size(): k})",
    "timestamp('2020-01-02T03:04:05Z').getHours('+02:00') - int(duration('1h')) / 3600",
    "format.named('uuid').value().validate(self.s).hasValue() ? [?self.?z, dyn(1)] : [dyn(2)]",
    "semver('v1.2', true).compareTo(semver('1.2.3-a.b+c')) < 0 && isSemver(self.s)",
    "type(self.a) == int ? string(self.a) : dyn(self.m).k",
    "'héllo'.substring(1, 3).upperAscii().lastIndexOf('L') + 'a,b'.replace(',', '', 1).indexOf('b', 0)",
    "has(self.m.k) && !has(self.m.z) && 'k' in self.m && self.l[?5].or(self.l[?0]).hasValue()",
    "[[1, 2], [3]].map(l, l.sum()).max() - lists.range(3).min()",
    "b'\\xff\\001' + bytes('é') == b'' || bool('true') == !false",
    "9223372036854775807 + self.a * -1 % 7 == 0x1F",
    "self.l.map(i, 'x' + i).transformList(i, v, i > 0, {'i': string(i), 'v': v})",
    "optional.none().orValue(optional.of(1).optFlatMap(x, optional.of([x])).value())",
    "'1 22'.findAll('[0-9]+', 1)[0].find('(a|b){2,3}') == strings.quote('\"')",
    "self.o.all(i, e, e.v > i) == (self.m == {'k': 1.5}) != (self.l in [self.l])",
    "1.5e3 / 0.0 > double('NaN') ? dyn(null) : uint(3) - 4u",
];

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
    fn parts_of_expressions_put_together_are_evaluated_or_refused(
        (one, other) in (0..WHOLE.len(), 0..WHOLE.len()),
        (end, start) in (0usize..100, 0usize..100),
    ) {
        let (one, other): (Vec<char>, Vec<char>) = (WHOLE[one].chars().collect(), WHOLE[other].chars().collect());
        let (head, tail) = (&one[..one.len() * end / 100], &other[other.len() * start / 100..]);
        let text: String = head.iter().chain(tail).collect();
        let json = serde_json::json!({"a": 3, "s": "abc", "l": ["x", "y"], "m": {"k": 1.5}, "o": [{"k": "a", "v": 1}]});
        if let Ok(program) = Env::new().with_variable("self", DeclType::dynamic()).compile(&text) {
            let mut activation = Activation::new();
            activation.bind("self", Value::dynamic(&json).unwrap());
            let _ = program.evaluate(&activation, &mut Budget::new(cel::OBJECT_BUDGET));
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

#[test]
fn the_expressions_to_be_cut_are_whole() {
    let env = Env::new().with_variable("self", DeclType::dynamic());
    for text in WHOLE {
        env.compile(text).unwrap_or_else(|errors| panic!("{text}: {errors}"));
    }
}
