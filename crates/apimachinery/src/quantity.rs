//! Amounts of resources: `500m`, `128Mi`, `1.5G`, `12e6`.
//!
//! As upstream: exact to a billionth (finer values round up), and written back in the family of units in which they came.

use std::cmp::Ordering;
use std::fmt;
use std::ops::{Add, Sub};
use std::str::FromStr;

const NANOS: i128 = 1_000_000_000;
/// The largest amount that values too large to hold become.
const MAX_UNITS: i128 = (1 << 63) - 1;

/// The text is no quantity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// Not a number followed by a suffix.
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Format,
    /// The number itself is malformed.
    #[error("unable to parse numeric part of quantity")]
    Numeric,
    /// No such suffix.
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

/// The family of units in which a quantity is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Units {
    /// `k`, `M`, `G`: powers of 1000.
    #[default]
    Decimal,
    /// `Ki`, `Mi`, `Gi`: powers of 1024.
    Binary,
    /// `e3`, `e6`.
    Exponent,
}

/// An exact amount.
#[derive(Debug, Clone, Copy, Default)]
pub struct Quantity {
    nanos: i128,
    units: Units,
}

impl Quantity {
    /// That many whole units.
    pub const fn from_units(amount: i64) -> Self {
        Self { nanos: amount as i128 * NANOS, units: Units::Decimal }
    }

    /// That many thousandths.
    pub const fn from_milli(amount: i64) -> Self {
        Self { nanos: amount as i128 * (NANOS / 1000), units: Units::Decimal }
    }

    /// That many whole units, written in `Ki`, `Mi`, ….
    pub const fn from_bytes(amount: i64) -> Self {
        Self { nanos: amount as i128 * NANOS, units: Units::Binary }
    }

    /// Whole units, rounded up.
    pub fn value(&self) -> i64 {
        self.scaled(NANOS)
    }

    /// Thousandths, rounded up.
    pub fn milli_value(&self) -> i64 {
        self.scaled(NANOS / 1000)
    }

    /// About how many units.
    #[allow(clippy::cast_precision_loss)]
    pub fn approximate(&self) -> f64 {
        self.nanos as f64 / NANOS as f64
    }

    /// Whether it is zero.
    pub const fn is_zero(&self) -> bool {
        self.nanos == 0
    }

    /// -1, 0 or 1.
    pub const fn signum(&self) -> i32 {
        self.nanos.signum() as i32
    }

    /// Whether that text is its canonical form. Makes no text to find out.
    pub fn is_written(&self, text: &str) -> bool {
        use fmt::Write as _;
        struct Rest<'a>(&'a str);
        impl fmt::Write for Rest<'_> {
            fn write_str(&mut self, part: &str) -> fmt::Result {
                self.0 = self.0.strip_prefix(part).ok_or(fmt::Error)?;
                Ok(())
            }
        }
        let mut rest = Rest(text);
        write!(rest, "{self}").is_ok() && rest.0.is_empty()
    }

    fn scaled(&self, nanos_each: i128) -> i64 {
        let down = self.nanos.div_euclid(nanos_each);
        let up = if self.nanos.rem_euclid(nanos_each) == 0 { down } else { down + 1 };
        i64::try_from(up).unwrap_or(if up < 0 { i64::MIN } else { i64::MAX })
    }

    fn combine(self, other: Self, nanos: i128) -> Self {
        Self { nanos, units: if self.is_zero() { other.units } else { self.units } }
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

impl std::hash::Hash for Quantity {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.nanos.hash(state);
    }
}

impl Add for Quantity {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        self.combine(other, self.nanos.saturating_add(other.nanos))
    }
}

impl Sub for Quantity {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        self.combine(other, self.nanos.saturating_sub(other.nanos))
    }
}

impl std::iter::Sum for Quantity {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::default(), Add::add)
    }
}

impl FromStr for Quantity {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
        let number_len = unsigned.bytes().take_while(|b| b.is_ascii_digit() || *b == b'.').count();
        let (number, suffix) = unsigned.split_at_checked(number_len).ok_or(QuantityError::Format)?;
        if number.is_empty() {
            return Err(QuantityError::Format);
        }
        let scale = Scale::parse(suffix)?;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if fraction.contains('.') || (whole.is_empty() && fraction.is_empty()) {
            return Err(QuantityError::Numeric);
        }
        let nanos = scale.nanos(whole, fraction);
        // Upstream shows fractions of a unit in thousandths, whatever suffix they came with.
        let units = match scale.units() {
            Units::Binary if nanos > 0 && nanos < NANOS => Units::Decimal,
            units => units,
        };
        Ok(Self { nanos: if text.starts_with('-') { -nanos } else { nanos }, units })
    }
}

/// What a suffix multiplies by.
enum Scale {
    Ten { exponent: i64, units: Units },
    Two { exponent: u32 },
}

impl Scale {
    fn parse(suffix: &str) -> Result<Self, QuantityError> {
        let ten = |exponent| Ok(Self::Ten { exponent, units: Units::Decimal });
        match suffix {
            "n" => ten(-9),
            "u" => ten(-6),
            "m" => ten(-3),
            "" => ten(0),
            "k" => ten(3),
            "M" => ten(6),
            "G" => ten(9),
            "T" => ten(12),
            "P" => ten(15),
            "E" => ten(18),
            "Ki" => Ok(Self::Two { exponent: 10 }),
            "Mi" => Ok(Self::Two { exponent: 20 }),
            "Gi" => Ok(Self::Two { exponent: 30 }),
            "Ti" => Ok(Self::Two { exponent: 40 }),
            "Pi" => Ok(Self::Two { exponent: 50 }),
            "Ei" => Ok(Self::Two { exponent: 60 }),
            _ => {
                let digits = suffix.strip_prefix(['e', 'E']).ok_or(QuantityError::Suffix)?;
                let exponent = digits.parse().map_err(|_| QuantityError::Suffix)?;
                Ok(Self::Ten { exponent, units: Units::Exponent })
            }
        }
    }

    const fn units(&self) -> Units {
        match self {
            Self::Ten { units, .. } => *units,
            Self::Two { .. } => Units::Binary,
        }
    }

    /// The amount in billionths, rounded up; the largest amount where it would not fit.
    fn nanos(&self, whole: &str, fraction: &str) -> i128 {
        match self {
            Self::Ten { exponent, .. } => {
                let point = i64::try_from(whole.len()).unwrap_or(i64::MAX);
                shift_decimal(
                    whole.bytes().chain(fraction.bytes()),
                    point.saturating_add(*exponent).saturating_add(9),
                )
            }
            Self::Two { exponent } => {
                let factor = 1i128 << exponent;
                let whole = whole.bytes().try_fold(0i128, push_digit);
                let whole = whole.and_then(|n| n.checked_mul(factor)).and_then(|n| n.checked_mul(NANOS));
                whole
                    .and_then(|n| n.checked_add(fraction_nanos(fraction, factor)))
                    .map_or(MAX_UNITS * NANOS, cap)
            }
        }
    }
}

fn push_digit(sum: i128, digit: u8) -> Option<i128> {
    sum.checked_mul(10)?.checked_add(i128::from(digit - b'0'))
}

fn cap(nanos: i128) -> i128 {
    nanos.min(MAX_UNITS * NANOS)
}

/// The number whose decimal point stands after the first `point` digits, rounded up.
fn shift_decimal(digits: impl Iterator<Item = u8>, point: i64) -> i128 {
    let mut sum: i128 = 0;
    let mut rest = false;
    let mut seen: i64 = 0;
    for digit in digits {
        if seen < point {
            match push_digit(sum, digit) {
                Some(next) => sum = next,
                None => return MAX_UNITS * NANOS,
            }
        } else {
            rest |= digit != b'0';
        }
        seen += 1;
    }
    // No i128 but zero takes forty more zeros.
    for _ in 0..point.saturating_sub(seen).clamp(0, 40) {
        match sum.checked_mul(10) {
            Some(next) => sum = next,
            None => return MAX_UNITS * NANOS,
        }
    }
    if rest { sum.saturating_add(1) } else { sum }
}

/// `0.fraction * factor` in billionths, rounded up. Digits beyond the fifteenth cannot change a billionth of a byte
/// by more than rounding does; whether they are zero still decides the rounding.
fn fraction_nanos(fraction: &str, factor: i128) -> i128 {
    const KEPT: usize = 10;
    let mut numerator: i128 = 0;
    let mut denominator: i128 = 1;
    for digit in fraction.bytes().take(KEPT) {
        numerator = numerator * 10 + i128::from(digit - b'0');
        denominator *= 10;
    }
    let rest = fraction.bytes().skip(KEPT).any(|digit| digit != b'0');
    // 10^10 * 2^60 * 10^9 is below 2^127.
    let product = numerator * factor * NANOS;
    let exact = product % denominator == 0 && !rest;
    product / denominator + i128::from(!exact)
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nanos == 0 {
            return f.write_str("0");
        }
        let small = self.nanos > -1024 * NANOS && self.nanos < 1024 * NANOS;
        let units = match self.units {
            Units::Binary if small || self.nanos % NANOS != 0 => Units::Decimal,
            units => units,
        };
        if units == Units::Binary {
            const SUFFIXES: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
            let (number, suffix) = strip_factors(self.nanos / NANOS, 1024, &SUFFIXES);
            return write!(f, "{number}{suffix}");
        }
        if units == Units::Decimal {
            const SUFFIXES: [&str; 10] = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];
            let (number, suffix) = strip_factors(self.nanos, 1000, &SUFFIXES);
            return write!(f, "{number}{suffix}");
        }
        let (mut number, mut exponent) = (self.nanos, -9);
        while number % 1000 == 0 {
            number /= 1000;
            exponent += 3;
        }
        if exponent == 0 { write!(f, "{number}") } else { write!(f, "{number}e{exponent}") }
    }
}

impl serde::Serialize for Quantity {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Quantity {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = match serde_json::Value::deserialize(deserializer)? {
            serde_json::Value::String(text) => text,
            other => other.to_string(),
        };
        text.trim().parse().map_err(serde::de::Error::custom)
    }
}

fn strip_factors(mut number: i128, factor: i128, suffixes: &[&'static str]) -> (i128, &'static str) {
    let mut suffixes = suffixes.iter();
    let mut suffix = suffixes.next().copied().unwrap_or_default();
    while number % factor == 0 {
        let Some(next) = suffixes.next() else { break };
        number /= factor;
        suffix = next;
    }
    (number, suffix)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn canonical_forms_are_upstreams() {
        for (text, canonical) in [
            ("0", "0"),
            ("0Ki", "0"),
            ("-0", "0"),
            ("1000m", "1"),
            ("0.5", "500m"),
            ("1.5", "1500m"),
            ("1500", "1500"),
            ("2000", "2k"),
            ("100Mi", "100Mi"),
            ("1024Ki", "1Mi"),
            ("1023Ki", "1023Ki"),
            ("512Ki", "512Ki"),
            ("0.5Gi", "512Mi"),
            ("0.5Ki", "512"),
            ("1Ki", "1Ki"),
            ("0.0001Ki", "102400u"),
            ("1.5Ki", "1536"),
            ("12e6", "12e6"),
            ("12E3", "12e3"),
            ("1e3", "1e3"),
            ("1200e3", "1200e3"),
            ("1E", "1E"),
            ("1n", "1n"),
            ("0.1n", "1n"),
            ("1e-12", "1e-9"),
            ("+1", "1"),
            ("-1500m", "-1500m"),
            (".5", "500m"),
            ("5.", "5"),
            ("9223372036854775807", "9223372036854775807"),
            ("1000E", "1000E"),
            ("8Ei", "9223372036854775807"),
        ] {
            let quantity: Quantity = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(quantity.to_string(), canonical, "{text}");
        }
    }

    #[test]
    fn errors_are_upstreams() {
        for (text, error) in [
            ("", QuantityError::Format),
            ("x", QuantityError::Format),
            ("-", QuantityError::Format),
            (".", QuantityError::Numeric),
            ("1.2.3", QuantityError::Numeric),
            ("1x", QuantityError::Suffix),
            ("1 ", QuantityError::Suffix),
            ("1e", QuantityError::Suffix),
            ("1Kii", QuantityError::Suffix),
            ("1é", QuantityError::Suffix),
        ] {
            assert_eq!(text.parse::<Quantity>(), Err(error), "{text}");
        }
    }

    #[test]
    fn sums_keep_their_units() {
        let q = |text: &str| text.parse::<Quantity>().unwrap();
        assert_eq!((q("1Gi") + q("1Gi")).to_string(), "2Gi");
        assert_eq!((Quantity::default() + q("64Mi")).to_string(), "64Mi");
        assert_eq!((q("1") - q("100m")).to_string(), "900m");
        assert!(q("1Ki") > q("1k"));
        assert_eq!(q("1500m").value(), 2);
        assert_eq!(q("-1500m").value(), -1);
        assert_eq!(q("1.0001").milli_value(), 1001);
        assert_eq!(q("1e100").value(), i64::MAX);
        assert_eq!(q("1e999999999999999999"), q("9223372036854775807"));
    }

    proptest! {
        #[test]
        fn canonical_form_reads_back_the_same(
            sign in "[+-]?", number in "[0-9]{1,18}(\\.[0-9]{0,12})?",
            suffix in "(n|u|m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei|e-?[0-9]{1,2}|)",
        ) {
            let quantity: Quantity = format!("{sign}{number}{suffix}").parse().unwrap();
            let text = quantity.to_string();
            let again: Quantity = text.parse().unwrap();
            prop_assert_eq!(again, quantity);
            let longer = format!("{text}0");
            prop_assert!(again.is_written(&text) && !again.is_written(&longer));
            prop_assert_eq!(again.to_string(), text);
        }

        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,24}|[0-9eE.+-]{0,40}") {
            let _ = text.parse::<Quantity>().map(|quantity| (quantity.to_string(), quantity.value()));
        }
    }
}
