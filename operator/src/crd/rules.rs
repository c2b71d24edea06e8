//! Rules that the API server evaluates, each with words that name the value and what to do: the same as in local mode.

use kube::core::cel::{Message, Rule};

fn rule(rule: &str, message: &str) -> Rule {
    Rule::new(rule).message(Message::Expression(message.to_owned()))
}

pub(super) fn resource_name() -> Rule {
    rule(
        "size(self.metadata.name) <= 40 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
        r#"'metadata.name: "' + self.metadata.name + '" cannot be part of the names of pods; use 1 to 40 characters of a-z, 0-9 and \'-\', beginning with a letter and ending with a letter or digit'"#,
    )
}

/// What is said of the first database whose writeQuorum is a number for which this holds. With `format`, because the API
/// server takes a number made text for one without end, and what is joined to it for too dear.
fn first_quorum(is_wrong: &str, words: &str, numbers: &str) -> String {
    let first = format!(
        "self.databases.filter(d, has(d.writeQuorum) && type(d.writeQuorum) == int && d.writeQuorum {is_wrong})[0]"
    );
    format!(
        "'%s: writeQuorum %d is {words}; use majority, all, or a number from %d to %d'.format(\
         [{first}.name, {first}.writeQuorum, {numbers}, self.replicas / 2 + 1, self.replicas])"
    )
}

fn every_quorum(is_right: &str) -> String {
    format!(
        "self.replicas == 0 || !has(self.databases) || \
         self.databases.all(d, !has(d.writeQuorum) || type(d.writeQuorum) != int || {is_right})"
    )
}

pub(super) fn write_quorum_is_a_majority() -> Rule {
    let words = "below a majority of %d nodes (%d), so an acknowledged write could be lost";
    rule(
        &every_quorum("d.writeQuorum > self.replicas / 2"),
        &first_quorum("<= self.replicas / 2", words, "self.replicas, self.replicas / 2 + 1"),
    )
}

pub(super) fn write_quorum_is_possible() -> Rule {
    let words = "more than the %d nodes, so no write could succeed";
    rule(&every_quorum("d.writeQuorum <= self.replicas"), &first_quorum("> self.replicas", words, "self.replicas"))
}

fn request_is_within_limit(field: &str) -> Rule {
    rule(
        &format!(
            "!has(self.requests) || !has(self.limits) || !has(self.requests.{field}) || !has(self.limits.{field}) || \
             quantity(self.requests.{field}).compareTo(quantity(self.limits.{field})) <= 0"
        ),
        &format!(
            r#"'requests.{field} "' + self.requests.{field} + '" is more than limits.{field} "' + self.limits.{field} + '"; write a limit that is at least the request'"#
        ),
    )
}

pub(super) fn cpu_request_is_within_limit() -> Rule {
    request_is_within_limit("cpu")
}

pub(super) fn memory_request_is_within_limit() -> Rule {
    request_is_within_limit("memory")
}

pub(super) fn cpu_is_something() -> Rule {
    rule(
        "!has(self.cpu) || quantity(self.cpu).isGreaterThan(quantity('0'))",
        r#"'cpu: "' + self.cpu + '" is no amount; write 500m or "2"'"#,
    )
}

pub(super) fn memory_is_something() -> Rule {
    rule(
        "!has(self.memory) || quantity(self.memory).isGreaterThan(quantity('0'))",
        r#"'memory: "' + self.memory + '" is no amount; write 512Mi or 2Gi'"#,
    )
}

pub(super) fn size_is_something() -> Rule {
    rule(
        "quantity(self.size).isGreaterThan(quantity('0'))",
        r#"'"' + self.size + '" is nothing; write a size above 0, such as 10Gi'"#,
    )
}

pub(super) fn size_never_shrinks() -> Rule {
    rule(
        "quantity(self.size).compareTo(quantity(oldSelf.size)) >= 0",
        "'size cannot shrink from ' + oldSelf.size + ' to ' + self.size + ': volumes only grow; write ' + oldSelf.size + ' or more'",
    )
}

pub(super) fn storage_class_stays() -> Rule {
    let name =
        |of: &str| format!(r#"(has({of}.storageClassName) ? '"' + {of}.storageClassName + '"' : 'the default')"#);
    rule(
        "has(self.storageClassName) == has(oldSelf.storageClassName) && \
         (!has(self.storageClassName) || self.storageClassName == oldSelf.storageClassName)",
        &format!(
            "'storageClassName cannot be changed from ' + {} + ' to ' + {} + ': volumes stay where they are; set it back, or make another resource'",
            name("oldSelf"),
            name("self")
        ),
    )
}
