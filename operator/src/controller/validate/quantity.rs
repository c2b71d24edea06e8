//! Quantities of bytes as Kubernetes writes them.

use crate::crd::bounds::QUANTITY_BYTES_MAX;

const SUFFIXES: &[&str] = &["Ki", "Mi", "Gi", "Ti", "Pi", "Ei", "k", "M", "G", "T", "P", "E", ""];

/// What is wrong with a quantity of 0.
pub(super) const NOTHING: &str = "is nothing";

/// What is wrong with a quantity of bytes; `None` if nothing is.
pub(super) fn fault(text: &str) -> Option<&'static str> {
    if text.len() > QUANTITY_BYTES_MAX {
        return Some("is longer than 24 characters");
    }
    let number = SUFFIXES.iter().find_map(|suffix| text.strip_suffix(suffix)).unwrap_or(text);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(fraction) {
        return Some("is no quantity");
    }
    number.bytes().all(|b| matches!(b, b'0' | b'.')).then_some(NOTHING)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_numbers_with_a_known_suffix() {
        for good in ["1", "10Gi", "1.5Ti", "500M", "3k", "0.5Gi"] {
            assert_eq!(fault(good), None, "{good}");
        }
        for bad in ["", "Gi", "ten", "10GB", "10gi", "-1Gi", "1.Gi", ".5Gi", "1e3", "0", "0.0Gi", "1m", "1 Gi"] {
            assert!(fault(bad).is_some(), "{bad}");
        }
    }
}
