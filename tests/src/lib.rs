//! Helpers of the black-box tests: clusters of real processes, on this machine and on a real Kubernetes; a client, writers
//! that remember, checkers.

pub mod apiserver;
pub mod binaries;
pub mod blockade;
pub mod checker;
pub mod cities;
pub mod client;
pub mod disks;
pub mod clock;
pub mod cluster;
pub mod go;
pub mod helm;
pub mod history;
pub mod kubernetes;
pub mod local;
pub mod preload;
pub mod random;
pub mod source;
pub mod witness;
pub mod writers;
