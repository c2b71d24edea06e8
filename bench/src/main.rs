//! A closed-loop load generator for the HTTP API.

fn main() {}
