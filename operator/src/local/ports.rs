//! Ports of the replicas, on the loopback interface only.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

/// Distance between a node's API port and its port for other nodes; no resource has more nodes.
const PEERS_ABOVE_API: u16 = 100;
/// Where free ports are looked for first, and how far apart two instances are.
const FIRST_BASE: u16 = 7600;
const BASE_STEP: u16 = 200;

/// A block of ports that is this instance's as long as the value lives: whoever looks for a block tries to listen on
/// its last port, which no node has. Without it two instances that start in the same moment would find the same
/// ports free.
#[derive(Debug)]
pub struct Block {
    base: u16,
    _held: TcpListener,
}

impl Block {
    /// Holds the block that begins at `base`, or says that another instance does.
    pub fn hold(base: u16) -> Option<Self> {
        let last = base.checked_add(BASE_STEP - 1)?;
        let held = TcpListener::bind((Ipv4Addr::LOCALHOST, last)).ok()?;
        Some(Self { base, _held: held })
    }

    /// Whether `slot` holds the block at `base`, if need be from now on. A block held before is kept when another one
    /// cannot be had.
    pub fn hold_in(slot: &mut Option<Self>, base: u16) -> bool {
        if slot.as_ref().is_some_and(|block| block.base == base) {
            return true;
        }
        let block = Self::hold(base);
        let holds = block.is_some();
        *slot = block.or_else(|| slot.take());
        holds
    }
}

/// The two ports of a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ports {
    /// HTTP API.
    pub api: u16,
    /// For other nodes.
    pub peers: u16,
}

/// No ports could be given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PortFault {
    /// A port that follows from `--port` is taken.
    #[error(
        "port {port} (for node {ordinal}) is in use; give another first port with --port, or leave it out for free ones"
    )]
    InUse {
        /// The port.
        port: u16,
        /// Ordinal of the node that should have it.
        ordinal: u32,
    },
    /// `--port` is too high for this many nodes.
    #[error("port {base} plus {above} is more than 65535; give a lower --port")]
    TooHigh {
        /// `--port`.
        base: u16,
        /// What is added to it.
        above: u32,
    },
    /// Nothing is free.
    #[error("no free ports were found from {FIRST_BASE} up; give a first port with --port")]
    NoneFree,
}

impl Ports {
    fn of(base: u16, ordinal: u32) -> Option<Self> {
        let api = base.checked_add(u16::try_from(ordinal).ok()?)?;
        Some(Self { api, peers: api.checked_add(PEERS_ABOVE_API)? })
    }

    /// Where the block begins in which these are the ports of node `ordinal`.
    pub fn base(self, ordinal: u32) -> Option<u16> {
        self.api.checked_sub(u16::try_from(ordinal).ok()?)
    }

    /// Address of the HTTP API.
    pub fn api_address(self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.api).into()
    }

    /// Address for other nodes.
    pub fn peer_address(self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.peers).into()
    }

    /// Where a person points a browser or curl.
    pub fn url(self) -> String {
        format!("http://{}", self.api_address())
    }
}

/// Whether nobody listens on a port.
pub fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// Ports that follow from `--port`.
pub fn fixed(base: u16, ordinal: u32, is_free: &dyn Fn(u16) -> bool) -> Result<Ports, PortFault> {
    let too_high = PortFault::TooHigh { base, above: ordinal + u32::from(PEERS_ABOVE_API) };
    let ports = Ports::of(base, ordinal).ok_or(too_high)?;
    match [ports.api, ports.peers].into_iter().find(|port| !is_free(*port)) {
        Some(port) => Err(PortFault::InUse { port, ordinal }),
        None => Ok(ports),
    }
}

/// Free ports for nodes that have none: near those of the nodes that have some, or else in the first block in which
/// all of them fit, so that a second instance finds a place beside the first. `hold` takes a block for this instance.
pub fn choose(
    ordinals: &[u32],
    taken: &BTreeMap<u32, Ports>,
    is_free: &dyn Fn(u16) -> bool,
    hold: &mut dyn FnMut(u16) -> bool,
) -> Result<BTreeMap<u32, Ports>, PortFault> {
    let used = |port: u16| taken.values().any(|ports| ports.api == port || ports.peers == port);
    let near = taken.iter().filter_map(|(ordinal, ports)| ports.base(*ordinal));
    let blocks = (FIRST_BASE..=u16::MAX - BASE_STEP).step_by(usize::from(BASE_STEP));
    for base in near.chain(blocks) {
        let all: Option<BTreeMap<u32, Ports>> =
            ordinals.iter().map(|ordinal| Some((*ordinal, Ports::of(base, *ordinal)?))).collect();
        let fits = |ports: &Ports| [ports.api, ports.peers].into_iter().all(|port| !used(port) && is_free(port));
        if let Some(all) = all.filter(|all| all.values().all(fits) && hold(base)) {
            return Ok(all);
        }
    }
    Err(PortFault::NoneFree)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn a_fixed_base_gives_every_node_its_two_ports_or_names_the_taken_one() {
        assert_eq!(fixed(9000, 2, &|_| true), Ok(Ports { api: 9002, peers: 9102 }));
        assert_eq!(fixed(9000, 2, &|port| port != 9102), Err(PortFault::InUse { port: 9102, ordinal: 2 }));
        assert!(fixed(65_500, 2, &|_| true).unwrap_err().to_string().contains("more than 65535"));
    }

    #[test]
    fn a_second_instance_runs_beside_the_first() {
        let none = BTreeMap::new();
        let first = choose(&[0, 1, 2], &none, &|_| true, &mut |_| true).unwrap();
        assert_eq!(first[&2], Ports { api: 7602, peers: 7702 });
        let second = choose(&[0, 1, 2], &none, &|port| port != 7601, &mut |_| true).unwrap();
        assert_eq!(second[&0], Ports { api: 7800, peers: 7900 });
        let at_once = choose(&[0, 1, 2], &none, &|_| true, &mut |base| base > 7800).unwrap();
        assert_eq!(at_once[&0].api, 8000, "blocks that other instances hold are passed over, free as they look");
    }

    #[test]
    fn more_nodes_come_near_the_ones_that_are_there() {
        let taken = BTreeMap::from([(0, Ports { api: 9000, peers: 9100 }), (1, Ports { api: 9001, peers: 9101 })]);
        let more = choose(&[2, 3], &taken, &|_| true, &mut |_| true).unwrap();
        assert_eq!(more[&3], Ports { api: 9003, peers: 9103 });
        let moved = choose(&[1], &taken, &|port| port >= 7800, &mut |_| true).unwrap();
        assert_eq!(moved[&1].api, 7801, "the port of the node itself is not offered again");
        assert_eq!(choose(&[0], &BTreeMap::new(), &|_| false, &mut |_| true), Err(PortFault::NoneFree));
    }

    #[test]
    fn a_block_has_one_holder_at_a_time() {
        let base = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port() - BASE_STEP + 1;
        let (mut first, mut second) = (None, None);
        assert!(Block::hold_in(&mut first, base) && Block::hold_in(&mut first, base), "held once, held on");
        assert!(!Block::hold_in(&mut second, base));
        drop(first);
        assert!(Block::hold_in(&mut second, base));
    }

    #[test]
    fn a_port_that_somebody_listens_on_is_not_free() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        assert!(!is_free(listener.local_addr().unwrap().port()));
    }
}
