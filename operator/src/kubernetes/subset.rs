//! Whether an object holds everything that is wanted. Fields that others added, and defaults, do not count.

use crate::controller::quantity::same_quantity;
use serde_json::Value;

/// Whether every wanted field stands in `live` with the same value.
pub fn covers(wanted: &Value, live: &Value) -> bool {
    match (wanted, live) {
        (Value::Object(wanted), Value::Object(live)) => {
            wanted.iter().all(|(key, value)| live.get(key).is_some_and(|live| covers(value, live)))
        }
        (Value::Array(wanted), Value::Array(live)) => {
            wanted.len() == live.len() && wanted.iter().zip(live).all(|(wanted, live)| covers(wanted, live))
        }
        // Kubernetes writes some quantities in its own way: 1024Mi becomes 1Gi.
        (Value::String(wanted), Value::String(live)) => wanted == live || same_quantity(wanted, live),
        (wanted, live) => wanted == live,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn defaults_do_not_count_and_changes_do() {
        let wanted = json!({ "a": 1, "list": [{ "name": "x" }] });
        assert!(covers(&wanted, &json!({ "a": 1, "b": 2, "list": [{ "name": "x", "protocol": "TCP" }] })));
        for other in [
            json!({ "a": 2, "list": [{ "name": "x" }] }),
            json!({ "a": 1, "list": [] }),
            json!({ "a": 1, "list": [{ "name": "x" }, { "name": "y" }] }),
            json!({ "list": [{ "name": "x" }] }),
        ] {
            assert!(!covers(&wanted, &other), "{other}");
        }
    }
}
