//! Numbers that may be percentages of a whole, as updates and budgets have them.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// The number that is meant, of a whole. What is neither a number nor a percentage, which the server refuses, is none.
pub(crate) fn scaled(value: &IntOrString, whole: i32, round_up: bool) -> i32 {
    let percent = match value {
        IntOrString::Int(number) => return (*number).max(0),
        IntOrString::String(text) => text.trim_end_matches('%').parse::<i64>().unwrap_or(0).max(0),
    };
    let hundredths = percent.saturating_mul(i64::from(whole));
    let share = if round_up { hundredths.saturating_add(99) / 100 } else { hundredths / 100 };
    i32::try_from(share).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_round_as_asked() {
        let percent = |text: &str| IntOrString::String(text.to_owned());
        assert_eq!(scaled(&percent("25%"), 10, true), 3);
        assert_eq!(scaled(&percent("25%"), 10, false), 2);
        assert_eq!(scaled(&percent("100%"), 7, false), 7);
        assert_eq!(scaled(&IntOrString::Int(4), 1, true), 4);
        assert_eq!(scaled(&percent("nonsense"), 10, true), 0);
    }
}
