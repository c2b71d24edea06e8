//! One connection: frames in, frames out, and the introduction before them.

use super::codec::{FrameCodec, HELLO_BYTES_MAX};
use super::error::{ConnectionError, FrameError};
use super::hello::{Greeting, Hello};
use super::transport::BoxedStream;
use bytes::Bytes;
use futures::StreamExt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf, ReadHalf, WriteHalf};
use tokio::time::timeout;
use tokio_util::codec::FramedRead;

/// Reads come in pieces of this size at least.
const READ_BYTES: usize = 64 * 1024;

/// A connection whose frames are short until both sides are introduced.
pub(super) struct Connection {
    pub reader: FrameReader,
    pub writer: FrameWriter,
    pub remote: SocketAddr,
}

impl Connection {
    /// `stall`: how long the other side may take nothing.
    pub fn new(stream: BoxedStream, remote: SocketAddr, stall: Duration) -> Self {
        let (reader, writer) = tokio::io::split(stream);
        let codec = FrameCodec { bytes_max: HELLO_BYTES_MAX };
        let reader = Counted { half: reader, bytes: 0 };
        let reader = FrameReader(FramedRead::with_capacity(reader, codec, HELLO_BYTES_MAX));
        Self { reader, writer: FrameWriter { half: writer, stall }, remote }
    }

    /// The dialer's part of the introduction: says `own` and returns who answered.
    pub async fn introduce(&mut self, own: &Hello) -> Result<Hello, ConnectionError> {
        self.writer.write(&Greeting::Hello(own.clone()).frame()).await?;
        let theirs = match Greeting::decode(self.reader.read().await?)? {
            Greeting::Refusal(refusal) => return Err(ConnectionError::TurnedAway(refusal)),
            Greeting::Hello(theirs) => theirs,
        };
        own.check_wanted(&theirs).and_then(|()| theirs.check(own)).map_err(ConnectionError::Refused)?;
        Ok(theirs)
    }

    /// The accepter's first step: who dials.
    pub async fn hear(&mut self) -> Result<Hello, ConnectionError> {
        match Greeting::decode(self.reader.read().await?)? {
            Greeting::Hello(hello) => Ok(hello),
            Greeting::Refusal(_) => Err(ConnectionError::Unexpected("the dialer began with a refusal")),
        }
    }
}

/// The receiving half.
pub(super) struct FrameReader(FramedRead<Counted, FrameCodec>);

/// Counts the bytes that come.
struct Counted {
    half: ReadHalf<BoxedStream>,
    bytes: u64,
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.half).poll_read(context, buffer);
        self.bytes += (buffer.filled().len() - before) as u64;
        polled
    }
}

impl FrameReader {
    /// The next frame's payload.
    pub async fn read(&mut self) -> Result<Bytes, ConnectionError> {
        match self.0.next().await {
            Some(Ok(payload)) => Ok(payload),
            // What the system says may be TLS's word, which has a better one.
            Some(Err(FrameError::Io(error))) => Err(error.into()),
            Some(Err(error)) => Err(error.into()),
            None => Err(ConnectionError::Closed),
        }
    }

    /// Bytes that have come so far.
    pub fn bytes(&self) -> u64 {
        self.0.get_ref().bytes
    }

    /// Takes longer frames from now on.
    pub fn permit(&mut self, bytes_max: usize) {
        self.0.decoder_mut().bytes_max = bytes_max;
        self.0.read_buffer_mut().reserve(READ_BYTES);
    }
}

/// The sending half.
pub(super) struct FrameWriter {
    half: WriteHalf<BoxedStream>,
    stall: Duration,
}

impl FrameWriter {
    /// Writes whole frames. A peer that takes nothing for the stall time is given up.
    pub async fn write(&mut self, mut frames: &[u8]) -> Result<(), ConnectionError> {
        while !frames.is_empty() {
            let written = timeout(self.stall, self.half.write(frames)).await.map_err(|_| stalled(self.stall))??;
            if written == 0 {
                return Err(ConnectionError::Closed);
            }
            frames = frames.get(written..).unwrap_or_default();
        }
        timeout(self.stall, self.half.flush()).await.map_err(|_| stalled(self.stall))??;
        Ok(())
    }
}

fn stalled(after: Duration) -> ConnectionError {
    ConnectionError::TimedOut { what: "the other side's taking bytes", after }
}

/// Bounds a step of a conversation in time.
pub(super) async fn within<T>(
    what: &'static str,
    after: Duration,
    step: impl Future<Output = Result<T, ConnectionError>>,
) -> Result<T, ConnectionError> {
    timeout(after, step).await.unwrap_or(Err(ConnectionError::TimedOut { what, after }))
}
