//! Amounts as Kubernetes writes them, compared by what they are worth.

/// Whether two quantities are the same amount.
pub fn same_quantity(one: &str, other: &str) -> bool {
    one == other || amount(one).is_some_and(|amount_of_one| amount(other) == Some(amount_of_one))
}

/// Whether a quantity is less than another; false when one of them is no quantity.
pub fn is_less(one: &str, other: &str) -> bool {
    matches!((amount(one), amount(other)), (Some(one), Some(other)) if one < other)
}

/// A quantity in thousandths.
fn amount(text: &str) -> Option<u128> {
    const SUFFIXES: &[(&str, u128)] = &[
        ("Ki", 1000 << 10),
        ("Mi", 1000 << 20),
        ("Gi", 1000 << 30),
        ("Ti", 1000 << 40),
        ("Pi", 1000 << 50),
        ("Ei", 1000 << 60),
        ("m", 1),
        ("k", 1_000_000),
        ("M", 1_000_000_000),
        ("G", 1_000_000_000_000),
        ("T", 1_000_000_000_000_000),
        ("P", 1_000_000_000_000_000_000),
        ("E", 1_000_000_000_000_000_000_000),
        ("", 1000),
    ];
    let (number, scale) = SUFFIXES.iter().find_map(|(suffix, scale)| Some((text.strip_suffix(suffix)?, *scale)))?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit()) && part.len() <= 18;
    if whole.is_empty() || !digits(whole) || !digits(fraction) {
        return None;
    }
    let whole = whole.parse::<u128>().ok()?.checked_mul(scale)?;
    let parts = 10_u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let fraction = if fraction.is_empty() { 0 } else { fraction.parse::<u128>().ok()?.checked_mul(scale)? / parts };
    whole.checked_add(fraction)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_compared_by_amount() {
        for (one, other) in [("1024Mi", "1Gi"), ("1000m", "1"), ("0.5Gi", "512Mi"), ("1k", "1000")] {
            assert!(same_quantity(one, other), "{one} {other}");
        }
        assert!(is_less("1Gi", "1.5Gi") && is_less("1G", "1Gi") && !is_less("2Gi", "2048Mi") && !is_less("x", "1"));
        assert!(!same_quantity("a", "b") && !same_quantity("1", "2"));
    }
}
