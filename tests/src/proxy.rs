//! A TCP proxy before a node's peer port, which can be cut: bytes stop without a word, as behind a blocked port.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// A proxy; ends with its runtime.
pub struct Proxy {
    /// Where it listens.
    pub address: String,
    cut: watch::Sender<bool>,
    stopped: Arc<AtomicBool>,
}

impl Proxy {
    /// Listens on a free port and passes everything to `target`.
    pub async fn start(target: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("address").to_string();
        let (cut, seen) = watch::channel(false);
        let stopped = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&stopped);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if ends.load(Ordering::Relaxed) {
                    return;
                }
                tokio::spawn(pass(client, target.clone(), seen.clone()));
            }
        });
        Self { address, cut, stopped }
    }

    /// From now on nothing passes; connections stay open.
    pub fn cut(&self) {
        self.cut.send_replace(true);
    }

    /// Everything passes again.
    pub fn heal(&self) {
        self.cut.send_replace(false);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
    }
}

async fn pass(client: TcpStream, target: String, cut: watch::Receiver<bool>) {
    let mut open = cut.clone();
    if open.wait_for(|cut| !cut).await.is_err() {
        return;
    }
    let Ok(server) = TcpStream::connect(target).await else { return };
    let ((client_read, client_write), (server_read, server_write)) = (client.into_split(), server.into_split());
    tokio::join!(pump(client_read, server_write, cut.clone()), pump(server_read, client_write, cut));
}

async fn pump(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    mut cut: watch::Receiver<bool>,
) {
    let mut buffer = vec![0u8; 64 << 10];
    while let Ok(count) = from.read(&mut buffer).await {
        if count == 0 || cut.wait_for(|cut| !cut).await.is_err() || to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}
