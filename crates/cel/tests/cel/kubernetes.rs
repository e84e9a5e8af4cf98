//! Libraries beside the language's own.

use std::sync::Mutex;

use cel::{
    Activation, Authorize, Budget, Decision, DeclType, Env, Question, ResourceTarget, Subject, Target, Value,
};

use crate::{check, show};

#[test]
fn strings() {
    check("'abc'.startsWith('a') && 'abc'.endsWith('c') && 'abc'.contains('b')", "true");
    check("'hello'.charAt(1) + 'hello'.charAt(5)", "'e'");
    check("'hello'.charAt(6)", "error: index out of range: 6");
    check("'héllo'.indexOf('l') + 'hello'.lastIndexOf('l') * 10", "32");
    check("'hello'.indexOf('l', 3) + 'hello'.lastIndexOf('l', 2) * 10 + 'a'.indexOf('') * 100", "23");
    check("'hello'.lastIndexOf('hello', 0) + 'hello'.lastIndexOf('llo', 1)", "-1");
    check("'hello'.indexOf('x', -1)", "error: index out of range: -1");
    check("'TacoCat'.lowerAscii() + 'é'.upperAscii()", "'tacocaté'");
    check(
        "'hello hello'.replace('he', 'we') + 'hh'.replace('h', 'x', 1) + 'ab'.replace('', '_')",
        "'wello welloxh_a_b_'",
    );
    check("'a,b,c'.split(',')", "['a', 'b', 'c']");
    check("'a,b,c'.split(',', 2)", "['a', 'b,c']");
    check("'ab'.split('')", "['a', 'b']");
    check("'a,b'.split(',', 0)", "[]");
    check("'tacocat'.substring(4) + 'tacocat'.substring(0, 4)", "'cattaco'");
    check("'tacocat'.substring(5, 4)", "error: invalid substring range. start: 5, end: 4");
    check("'  x '.trim()", "'x'");
    check("['a', 'b'].join() + ['a', 'b'].join('-')", "'aba-b'");
    check(r#"strings.quote("a\n\"b\"")"#, r#"'"a\n\"b\""'"#);
}

#[test]
fn formats_of_text() {
    check("'%s has %d'.format(['x', 1])", "compile: expected type 'string' but found 'int'");
    check("'%s has %d'.format([dyn('x'), dyn(1)])", "'x has 1'");
    check(
        "'%.2f|%x|%X|%b|%o|%e'.format([dyn(1234.5), dyn(255), dyn('a'), dyn(5), dyn(8), dyn(1500.0)])",
        "'1,234.50|ff|61|101|10|1.500000\u{a0}\u{d7}\u{a0}10\u{2070}\u{b3}'",
    );
    check("'%s'.format([[1, 2]])", "'[1, 2]'");
    check("'%s'.format([{'a': ['x']}])", "'{\"a\":[\"x\"]}'");
    check("'%d'.format(['x'])", "compile: decimal clause can only be used on integers, was given string");
    check("'%d%%'.format([5])", "'5%'");
    check("'%s'.format([])", "compile: index 0 out of range");
    check("''.format([1])", "compile: too many arguments supplied to string.format (expected 0, got 1)");
    check(
        "'%q'.format([1])",
        "compile: could not parse formatting clause: unrecognized formatting clause \"q\"",
    );
}

#[test]
fn lists_and_sets() {
    check("[1, 2].isSorted() && !['b', 'a'].isSorted() && [1, 2].sum() == 3", "true");
    check("[duration('1s'), duration('1m')].sum()", "61000000000ns");
    check(
        "[duration('1s')].filter(d, false).sum() == duration('0s') && [1.5].slice(0, 0).sum() == 0.0",
        "true",
    );
    check("[3, 1].max() + [3, 1].min()", "4");
    check("['x'].min()", "'x'");
    check("dyn([]).max()", "error: max called on empty list");
    check("[1, 2, 1].indexOf(1) + [1, 2, 1].lastIndexOf(1) * 10 + [1].indexOf(5) * 100", "-80");
    check("[1, 2, 3, 4].slice(1, 3)", "[2, 3]");
    check("[1].slice(0, 5)", "error: cannot slice(0, 5), list is length 1");
    check("[[1], [2, 3]].flatten()", "[1, 2, 3]");
    check("lists.range(3)", "[0, 1, 2]");
    check("[1, 2].reverse()", "[2, 1]");
    check("[1, 2, 1].distinct()", "[1, 2]");
    check("[3, 1, 2].sort()", "[1, 2, 3]");
    check("['aa', 'b'].sortBy(s, s.size())", "['b', 'aa']");
    check(
        "sets.contains([1, 2], [2]) && sets.equivalent([1, 2], [2, 1]) && sets.intersects([1], [1, 2])",
        "true",
    );
    check("sets.contains([1], [2]) || sets.equivalent([1], [1, 2]) || sets.intersects([1], [2])", "false");
}

#[test]
fn regular_expressions() {
    check("'abc'.matches('^a.c$') && !'abc'.matches('^b')", "true");
    check("'abc 123'.find('[0-9]+') + 'x'.find('[0-9]+')", "'123'");
    check("'1 22 333'.findAll('[0-9]+')", "['1', '22', '333']");
    check("'1 22 333'.findAll('[0-9]+', 2)", "['1', '22']");
    check("'a'.matches('(')", "compile: invalid matches argument");
    check("'a'.find('(')", "compile: invalid find argument");
    check("'a'.matches('a' + '(')", "error: error parsing regexp: unclosed group");
}

#[test]
fn addresses() {
    check("isIP('10.0.0.1') && isIP('::1') && !isIP('10.0.0.256') && !isIP('::ffff:1.2.3.4')", "true");
    check("ip('::1').family() + ip('127.0.0.1').family()", "10");
    check(
        "ip('127.0.0.1').isLoopback() && ip('0.0.0.0').isUnspecified() && ip('fe80::1').isLinkLocalUnicast()",
        "true",
    );
    check(
        "ip('224.0.0.1').isLinkLocalMulticast() && ip('8.8.8.8').isGlobalUnicast() && !ip('127.0.0.1').isGlobalUnicast()",
        "true",
    );
    check("ip.isCanonical('::1') && !ip.isCanonical('::01')", "true");
    check("ip('::1') == ip('0:0::1') && string(ip('::1')) == '::1' && type(ip('::1')) == net.IP", "true");
    check(
        "cidr('10.0.0.0/8').containsIP('10.1.2.3') && !cidr('10.0.0.0/8').containsIP(ip('11.0.0.0'))",
        "true",
    );
    check(
        "cidr('10.0.0.0/8').containsCIDR('10.1.0.0/16') && !cidr('10.0.0.0/8').containsCIDR(cidr('0.0.0.0/0'))",
        "true",
    );
    check("string(cidr('10.1.2.3/8').masked()) + string(cidr('10.1.2.3/8').ip())", "'10.0.0.0/810.1.2.3'");
    check("cidr('10.0.0.0/8').prefixLength()", "8");
    check("isCIDR('10.0.0.0/33') || isCIDR('10.0.0.0') || isCIDR('10.0.0.0/08')", "false");
}

#[test]
fn urls() {
    let url = "url('https://user@example.com:8443/a%20b?x=1&y=2&x=3#f')";
    check(
        &format!("{url}.getScheme() + '|' + {url}.getHost() + '|' + {url}.getHostname()"),
        "'https|example.com:8443|example.com'",
    );
    check(&format!("{url}.getPort() + {url}.getEscapedPath()"), "'8443/a%20b'");
    check(&format!("{url}.getQuery()['x']"), "['1', '3']");
    check("isURL('https://a') && isURL('/a') && !isURL('a b') && !isURL('../x')", "true");
    check(
        "url('nonsense')",
        "error: URL parse error during conversion from string: parse \"nonsense\": invalid URI for request",
    );
}

#[test]
fn amounts_and_versions() {
    check(
        "quantity('1.5Gi').isGreaterThan(quantity('1Gi')) && isQuantity('5m') && !isQuantity('5x')",
        "true",
    );
    check("quantity('50k').asInteger() + quantity('100').compareTo(quantity('1'))", "50001");
    check("quantity('1500m').isInteger() || quantity('1').isLessThan(quantity('1000m'))", "false");
    check("quantity('1500m').asApproximateFloat()", "1.5");
    check(
        "quantity('1k') == quantity('1000') && quantity('1').add(1).sub(quantity('2')).sign() == 0",
        "true",
    );
    check(
        "quantity('x')",
        "error: quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
    );
    check(
        "semver('1.2.3').isLessThan(semver('1.10.0')) && isSemver('1.0.0-alpha') && !isSemver('v1')",
        "true",
    );
    check(
        "semver('v1.2', true).major() * 100 + semver('1.2.3').minor() * 10 + semver('1.2.3').patch()",
        "123",
    );
    check("semver('1.0.0').compareTo(semver('1.0.0-rc.1'))", "1");
}

#[test]
fn named_formats() {
    check("format.dns1123Label().validate('ok')", "none");
    check("format.dns1123Label().validate('Not ok').value().size() > 0", "true");
    check("format.named('uuid').value().validate('6ba7b810-9dad-11d1-80b4-00c04fd430c8')", "none");
    check("format.named('nonsense')", "none");
    check("!format.uri().validate('https://x').hasValue() && format.uri().validate('x').hasValue()", "true");
    check("!format.dns1123LabelPrefix().validate('a-').hasValue()", "true");
    check("format.byte().validate('!').value()", "['invalid base64']");
}

#[test]
fn the_authorizer_is_asked() {
    struct Asked(Mutex<Vec<Question>>);
    impl Authorize for Asked {
        fn authorize(&self, question: &Question) -> Decision {
            self.0.lock().unwrap().push(question.clone());
            Decision { allowed: question.verb == "get", reason: "because".to_owned(), error: None }
        }
    }
    let asked = Asked(Mutex::new(Vec::new()));
    let env = Env::new()
        .with_variable("authorizer", DeclType::authorizer())
        .with_variable("authorizer.requestResource", DeclType::resource_check());
    let target =
        ResourceTarget { resource: "pods".into(), namespace: "ns".into(), ..ResourceTarget::default() };
    let mut activation = Activation::new();
    activation.bind("authorizer", Value::authorizer(&asked));
    activation.bind("authorizer.requestResource", Value::resource_check(&asked, target.clone()));
    let run = |source: &str| {
        let program = env.compile(source).unwrap_or_else(|errors| panic!("{source}: {errors}"));
        show(&program.evaluate(&activation, &mut Budget::new(cel::OBJECT_BUDGET)).unwrap())
    };
    assert_eq!(run("authorizer.requestResource.check('get').allowed()"), "true");
    assert_eq!(run("authorizer.requestResource.check('delete').reason()"), "'because'");
    assert_eq!(run("authorizer.path('/healthz').check('get').errored()"), "false");
    let question = "authorizer.serviceAccount('ns', 'sa').group('apps').resource('deployments').subresource('scale')\
                    .namespace('n').name('m').labelSelector('a=b').fieldSelector('c=d').check('get').allowed()";
    assert_eq!(run(question), "true");
    let questions = asked.0.into_inner().unwrap();
    assert_eq!(questions[0].target, Target::Resource(target));
    assert_eq!(questions[2].target, Target::Path("/healthz".into()));
    assert_eq!(questions[3].subject, Subject::ServiceAccount { namespace: "ns".into(), name: "sa".into() });
    let Target::Resource(last) = &questions[3].target else { panic!("a resource") };
    assert_eq!((last.group.as_str(), last.subresource.as_str()), ("apps", "scale"));
    assert_eq!((last.label_selector.as_str(), last.field_selector.as_str()), ("a=b", "c=d"));
}
