//! Streams of bytes between two nodes: TCP, inside TLS if the node has certificates. Nobody else knows what a stream
//! is made of.

use super::error::ConnectionError;
use crate::tls::Tls;
use socket2::{SockRef, TcpKeepalive};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, lookup_host};

/// A connection's bytes.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Any stream.
pub(super) type BoxedStream = Box<dyn Stream>;

/// A connection with nothing on the way is probed after this long.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(5);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(1);

/// So many bytes wait in the system before a connection takes more: what is urgent can overtake only what is still here.
#[cfg(target_os = "linux")]
const UNSENT_BYTES_MAX: u32 = 128 * 1024;

/// Connects to `host:port`, resolving the name anew and trying each of its addresses.
pub(super) async fn connect(
    address: &str,
    stall: Duration,
    tls: Option<&Tls>,
) -> Result<(BoxedStream, SocketAddr), ConnectionError> {
    let mut last = None;
    for remote in lookup_host(address).await? {
        match TcpStream::connect(remote).await {
            Ok(stream) => {
                tune(&stream, stall)?;
                let stream: BoxedStream = match tls {
                    Some(tls) => Box::new(tls.connect(stream).await?),
                    None => Box::new(stream),
                };
                return Ok((stream, remote));
            }
            Err(error) => last = Some(error),
        }
    }
    Err(last.map_or_else(|| ConnectionError::NoAddress { host: address.to_owned() }, ConnectionError::Io))
}

/// Takes the next connection.
pub(super) async fn accept(listener: &TcpListener, stall: Duration) -> io::Result<(TcpStream, SocketAddr)> {
    let (stream, remote) = listener.accept().await?;
    tune(&stream, stall)?;
    Ok((stream, remote))
}

/// The listener's part of what makes a connection a stream; it waits for the other side.
pub(super) async fn receive(stream: TcpStream, tls: Option<&Tls>) -> Result<BoxedStream, ConnectionError> {
    Ok(match tls {
        Some(tls) => Box::new(tls.accept_node(stream).await?),
        None => Box::new(stream),
    })
}

/// Small frames leave at once, and a peer that vanished without a word is noticed.
fn tune(stream: &TcpStream, stall: Duration) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_IDLE).with_interval(KEEPALIVE_INTERVAL);
    socket.set_tcp_keepalive(&keepalive)?;
    // Bytes that nobody acknowledges, and a window that stays shut, end the connection after this long.
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(stall))?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_notsent_lowat(UNSENT_BYTES_MAX)?;
    Ok(())
}
