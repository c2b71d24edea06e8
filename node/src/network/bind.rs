//! Where to listen: on both address families, or on the one that this machine has.

use rustix::io::Errno;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use tokio::net::TcpListener;

/// Listens. `[::]` means every address of both families; on a machine without IPv6, every address of the other.
pub async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    match (TcpListener::bind(address).await, instead(address)) {
        (Err(error), Some(other)) if is_no_such_family(&error) => TcpListener::bind(other).await,
        (result, _) => result,
    }
}

fn instead(address: SocketAddr) -> Option<SocketAddr> {
    let is_any = address.is_ipv6() && address.ip().is_unspecified();
    is_any.then(|| (Ipv4Addr::UNSPECIFIED, address.port()).into())
}

/// The kernel was started without IPv6, or every IPv6 address was taken away from it.
fn is_no_such_family(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrNotAvailable || error.raw_os_error() == Some(Errno::AFNOSUPPORT.raw_os_error())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn all_addresses_means_both_families() {
        let port = bind("[::]:0".parse().unwrap()).await.unwrap().local_addr().unwrap().port();
        let listener = bind(format!("[::]:{port}").parse().unwrap()).await.unwrap();
        let (dialed, accepted) = tokio::join!(tokio::net::TcpStream::connect(("127.0.0.1", port)), listener.accept());
        assert!(dialed.is_ok() && accepted.is_ok());
    }

    #[test]
    fn only_all_addresses_have_another_family() {
        for (address, other) in [("[::]:7", Some("0.0.0.0:7")), ("[::1]:7", None), ("0.0.0.0:7", None)] {
            assert_eq!(instead(address.parse().unwrap()), other.map(|other| other.parse().unwrap()), "{address}");
        }
        assert!(is_no_such_family(&io::Error::from(Errno::AFNOSUPPORT)));
        assert!(is_no_such_family(&io::Error::from(Errno::ADDRNOTAVAIL)));
        assert!(!is_no_such_family(&io::Error::from(Errno::ADDRINUSE)));
    }
}
