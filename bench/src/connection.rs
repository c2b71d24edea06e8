//! HTTP/1.1 over one kept connection, with as little work per request as will do.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(20);
/// Largest answer that is taken.
const ANSWER_BYTES_MAX: usize = 32 << 20;

/// A connection to one node.
#[derive(Debug)]
pub struct Connection {
    address: SocketAddr,
    stream: Option<TcpStream>,
    buffer: Vec<u8>,
    request: Vec<u8>,
}

/// Where the parts of an answer are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Head {
    status: u16,
    bytes: usize,
    body_bytes: usize,
    closes: bool,
}

impl Connection {
    /// To `address`; connects with the first request.
    pub fn new(address: SocketAddr) -> Self {
        Self { address, stream: None, buffer: Vec::with_capacity(4096), request: Vec::with_capacity(4096) }
    }

    /// Sends a request and reads its answer. After an error the next request connects anew.
    pub async fn send(&mut self, method: &str, path: &str, body: &[u8]) -> io::Result<u16> {
        let exchange = tokio::time::timeout(PATIENCE, self.exchange(method, path, body)).await;
        let status = exchange.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into()));
        if status.is_err() {
            self.stream = None;
        }
        status
    }

    /// The body of the last answer.
    pub fn body(&self) -> &[u8] {
        let head = read_head(&self.buffer).ok().flatten();
        head.and_then(|head| self.buffer.get(head.bytes..head.bytes + head.body_bytes)).unwrap_or_default()
    }

    async fn exchange(&mut self, method: &str, path: &str, body: &[u8]) -> io::Result<u16> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            none => {
                let stream = TcpStream::connect(self.address).await?;
                stream.set_nodelay(true)?;
                none.insert(stream)
            }
        };
        self.request.clear();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            self.address,
            body.len()
        );
        self.request.extend_from_slice(head.as_bytes());
        self.request.extend_from_slice(body);
        stream.write_all(&self.request).await?;
        self.buffer.clear();
        loop {
            if stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            if let Some(head) = read_head(&self.buffer)?
                && self.buffer.len() >= head.bytes + head.body_bytes
            {
                if head.closes {
                    self.stream = None;
                }
                return Ok(head.status);
            }
            if self.buffer.len() > ANSWER_BYTES_MAX {
                return Err(wrong("the answer is too large"));
            }
        }
    }
}

fn wrong(text: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, text)
}

/// The head of an answer, once all of it is there.
fn read_head(buffer: &[u8]) -> io::Result<Option<Head>> {
    let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(None) };
    let text = std::str::from_utf8(&buffer[..end]).map_err(|_| wrong("the head of the answer is not text"))?;
    let mut lines = text.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse::<u16>().ok());
    let status = status.ok_or_else(|| wrong("the answer has no status"))?;
    let mut head = Head { status, bytes: end + 4, body_bytes: 0, closes: false };
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        let value = value.trim();
        if name.eq_ignore_ascii_case("content-length") {
            head.body_bytes = value.parse().map_err(|_| wrong("content-length is not a number"))?;
        } else if name.eq_ignore_ascii_case("connection") {
            head.closes = value.eq_ignore_ascii_case("close");
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            return Err(wrong("streamed answers are not measured"));
        }
    }
    Ok(Some(head))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_read_when_they_are_whole() {
        assert_eq!(read_head(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n").unwrap(), None);
        let head = read_head(b"HTTP/1.1 201 Created\r\ncontent-length: 5\r\nconnection: close\r\n\r\nab").unwrap();
        assert_eq!(head, Some(Head { status: 201, bytes: 62, body_bytes: 5, closes: true }));
        assert!(read_head(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").is_err());
        assert!(read_head(b"nonsense\r\n\r\n").is_err());
    }
}
