//! Whole nodes in a simulated world: the real protocol, the real replica and the real store, on a network, clocks and
//! disks that go wrong as a seed says. The same seed gives the same events, so what is found can be looked at.
//!
//! Rooms: [`plan`] and [`faults`] (what a schedule is made of), [`world`] (machines, network, time), [`workload`]
//! (clients), [`watch`], [`check`] and [`generations`] (what must hold at each moment and of what clients saw),
//! [`schedule`] (one from beginning to verdict), [`recovery`], [`namesake`] and [`double`] (what comes in between where a
//! majority is lost for good, another database has the same name, or a machine is there twice), [`search`] and [`report`]
//! (many of them).

#![allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)]

/// A quarter of a schedule's time went to the system's allocator: redb asks for many small pieces in each commit.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

pub mod random;
pub mod plan;
pub mod faults;
pub mod world;
pub mod history;
pub mod generations;
pub mod workload;
pub mod watch;
pub mod check;
pub mod recovery;
pub mod namesake;
pub mod double;
pub mod schedule;
pub mod search;
pub mod report;
