//! Time of day, for people.

/// Local time as `12:00:01`.
pub fn time_of_day() -> String {
    jiff::Zoned::now().strftime("%H:%M:%S").to_string()
}
