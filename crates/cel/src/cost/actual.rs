//! What a call has cost, once it is made.

use super::{CHECK, Cost, LIST, PER_CHARACTER, PER_PATTERN_CHARACTER, STRUCT, scale};
use crate::value::{Library, Value};

fn size(args: &[Value<'_>], index: usize) -> u64 {
    args.get(index).map_or(1, Value::cost_size)
}

fn text(size: u64) -> u64 {
    scale(size, PER_CHARACTER)
}

const fn is_text(value: &Value<'_>) -> bool {
    matches!(value, Value::String(_) | Value::Bytes(_))
}

/// The cost of a call with these arguments and that result.
pub(crate) fn of_call(cost: Cost, args: &[Value<'_>], result: Option<&Value<'_>>) -> u64 {
    let of = |index: usize| size(args, index);
    let is = |index: usize, test: fn(&Value<'_>) -> bool| args.get(index).is_some_and(test);
    match cost {
        Cost::Conditional | Cost::Logical => 0,
        Cost::One | Cost::Index => 1,
        Cost::Equal if is(0, |value| matches!(value, Value::Library(_))) => 1,
        Cost::Equal => text(of(0).min(of(1))),
        Cost::Compare if is(0, is_text) => text(of(0).min(of(1))),
        Cost::Compare => 1,
        Cost::In if is(1, |value| matches!(value, Value::List(_))) => of(1),
        Cost::In => 1,
        Cost::Add if is(0, is_text) => text(of(0).saturating_add(of(1))),
        Cost::Add => 1,
        Cost::ToBytes if is(0, |value| matches!(value, Value::String(_))) => text(of(0)),
        Cost::ToText if is(0, |value| matches!(value, Value::Bytes(_))) => text(of(0)),
        Cost::ToBytes | Cost::ToText => 1,
        // Upstream counts the target and bounds by the argument; neither is gone through further than the shorter.
        Cost::Affix => text(of(0).min(of(1))),
        Cost::Quote | Cost::Format | Cost::Once | Cost::Transform => text(of(0)),
        Cost::Twice | Cost::Replace | Cost::Split => scale(of(0), 2.0 * PER_CHARACTER),
        Cost::Contains => text(of(0)).saturating_mul(text(of(1))),
        Cost::Matches | Cost::Find => {
            text(of(0).saturating_add(1)).saturating_mul(scale(of(1), PER_PATTERN_CHARACTER))
        }
        Cost::Scan => args.first().map_or(0, |value| traversal(value, &mut { MAX_VISITS })),
        Cost::Join => result.map_or(1, |result| text(result.cost_size())),
        Cost::Ip if is(0, |value| matches!(value, Value::String(_))) => text(of(0)),
        Cost::Ip => 1,
        Cost::ContainsIp => {
            let compared = text(of(0).saturating_mul(2));
            if is(1, is_text) { compared.saturating_add(text(of(1))) } else { compared }
        }
        Cost::ContainsCidr => {
            let compared = text(of(0).saturating_mul(2)).saturating_add(text(of(0))).saturating_add(1);
            if is(1, is_text) { compared.saturating_add(text(of(1))) } else { compared }
        }
        Cost::Validate => {
            let pattern = match args.first() {
                Some(Value::Library(Library::Format(format))) => format.pattern_length,
                _ => 0,
            };
            text(of(1).saturating_add(1)).saturating_mul(scale(pattern, PER_PATTERN_CHARACTER))
        }
        Cost::Check => CHECK,
        Cost::Selector => selector(of(1)),
        Cost::Sets { twice } => {
            let pairs = of(0).saturating_mul(of(1));
            1u64.saturating_add(if twice { pairs.saturating_mul(2) } else { pairs })
        }
        Cost::Slice | Cost::Range | Cost::Reverse => allocating(result.map_or(0, Value::cost_size)),
        Cost::Flatten => {
            let depth = match args.get(1) {
                Some(Value::Int(depth)) => u64::try_from(*depth).unwrap_or(0),
                _ => 1,
            };
            allocating(of(0).saturating_mul(depth))
        }
        Cost::Distinct | Cost::Sort => self_compared(args.first()),
        Cost::SortBy => self_compared(args.get(1)),
    }
}

/// Of a list that is made of so many units of work.
const fn allocating(work: u64) -> u64 {
    work.saturating_add(1 + LIST)
}

/// Of comparing each item of a list with each.
fn self_compared(list: Option<&Value<'_>>) -> u64 {
    let Some(Value::List(list)) = list else { return 1 };
    let count = crate::value::size(list.len());
    let texts = matches!(list.get(0), Some(Ok(Value::String(_) | Value::Bytes(_))));
    let factor = if texts { 2.0 + PER_CHARACTER } else { 2.0 };
    allocating(scale(count.saturating_mul(count), factor))
}

fn selector(length: u64) -> u64 {
    let each = LIST + STRUCT;
    LIST.saturating_add(text(length)).saturating_add(scale(length, 0.5).saturating_mul(each))
}

/// Values that are looked at for a cost. What has more in it costs more than an evaluation may: the same list may be in another
/// as often as one likes.
const MAX_VISITS: u64 = super::PER_CALL_LIMIT;

/// Of going through a value and all that is in it.
fn traversal(value: &Value<'_>, visits: &mut u64) -> u64 {
    if *visits == 0 {
        return u64::MAX;
    }
    *visits -= 1;
    match value {
        // Rounded down here, as upstream.
        Value::String(text) => crate::value::size(text.len()) / 10,
        Value::Bytes(bytes) => crate::value::size(bytes.len()) / 10,
        Value::List(list) => {
            let mut sum = 0u64;
            for item in list.iter() {
                sum = sum.saturating_add(item.as_ref().map_or(1, |item| traversal(item, visits)));
                if sum == u64::MAX {
                    break;
                }
            }
            sum
        }
        Value::Map(map) => {
            let mut sum = 0u64;
            for (key, value) in map.entries() {
                sum = sum.saturating_add(traversal(&key, visits));
                sum = sum.saturating_add(value.as_ref().map_or(1, |value| traversal(value, visits)));
                if sum == u64::MAX {
                    break;
                }
            }
            sum
        }
        _ => 1,
    }
}
