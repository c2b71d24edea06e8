//! What must hold of any bytes that come over a connection.

use super::codec::{FRAME_BYTES_MAX, FrameCodec, HELLO_BYTES_MAX, append_frame};
use super::hello::{ChannelKind, Greeting, Hello, PROTOCOL_VERSIONS};
use super::wire::{append_parcel, decode_parcels};
use bytes::{Bytes, BytesMut};
use coequal_types::NodeId;
use tokio_util::codec::Decoder as _;

/// A stream of frames that arrives in pieces of as many bytes as the first byte says; then the same bytes as one payload, so
/// that nobody has to guess its checksum.
pub fn frames(data: &[u8]) {
    let Some((step, stream)) = data.split_first() else { return };
    let whole = payloads(stream, stream.len());
    assert_eq!(whole, payloads(stream, usize::from(*step)), "frames do not depend on how they were cut up");
    for payload in whole.0 {
        read(payload);
    }
    let mut frame = BytesMut::new();
    append_frame(&mut frame, |out| out.extend_from_slice(stream));
    let (found, end) = payloads(&frame, frame.len());
    assert_eq!((&found[..], end), (&[Bytes::copy_from_slice(stream)][..], None), "a frame is read back");
    read(Bytes::copy_from_slice(stream));
}

/// The payloads of a stream, and what ended it if that was not its end.
fn payloads(stream: &[u8], step: usize) -> (Vec<Bytes>, Option<String>) {
    let mut codec = FrameCodec { bytes_max: FRAME_BYTES_MAX };
    let (mut source, mut found) = (BytesMut::new(), Vec::new());
    for piece in stream.chunks(step.max(1)) {
        source.extend_from_slice(piece);
        loop {
            match codec.decode(&mut source) {
                Ok(Some(payload)) => found.push(payload),
                Ok(None) => break,
                Err(error) => return (found, Some(error.to_string())),
            }
        }
    }
    let end = codec.decode_eof(&mut source).map(|last| assert_eq!(last, None)).err();
    (found, end.map(|error| error.to_string()))
}

/// A payload as messages and as a greeting: what can be read is written and read back as it was.
fn read(payload: Bytes) {
    if let Ok(decoded) = decode_parcels(payload.clone()) {
        for protocol in PROTOCOL_VERSIONS {
            let mut again = BytesMut::new();
            for envelope in &decoded.envelopes {
                for message in &envelope.messages {
                    append_parcel(envelope.database, message, protocol, &mut again);
                }
            }
            let read = decode_parcels(again.freeze()).expect("what was written");
            assert_eq!((&read.envelopes, read.unreadable), (&decoded.envelopes, None));
        }
        assert!(decoded.unreadable.is_none_or(|(count, why)| count > 0 && !why.to_string().is_empty()));
    }
    if payload.len() <= HELLO_BYTES_MAX
        && let Ok(greeting) = Greeting::decode(payload)
    {
        let (frames, end) = payloads(&greeting.frame(), usize::MAX);
        let [frame] = &frames[..] else { panic!("a greeting is one frame: {frames:?} {end:?}") };
        assert_eq!(Greeting::decode(frame.clone()).expect("what was written"), greeting);
        if let Greeting::Hello(hello) = greeting {
            judge(&hello);
        }
    }
}

/// Whoever it is, there is an answer, and a refusal says why.
fn judge(hello: &Hello) {
    let own = Hello {
        versions: PROTOCOL_VERSIONS,
        node: NodeId(1),
        incarnation: 2,
        process: 3,
        name: "own".parse().expect("a name"),
        cluster: None,
        channel: ChannelKind::Protocol,
        wanted: Some(NodeId(1)),
    };
    for (one, other) in [(hello, &own), (&own, hello)] {
        for verdict in [one.check(other), one.check_wanted(other)] {
            assert!(verdict.is_ok() || verdict.is_err_and(|refusal| !refusal.detail.is_empty()));
        }
    }
    assert_eq!(hello.check(&own).is_ok(), own.check(hello).is_ok(), "both sides judge alike");
    if hello.check(&own).is_ok() {
        let common = hello.common_version(&own.versions);
        assert_eq!(common, own.common_version(&hello.versions), "both sides find the same version");
        assert!(hello.versions.contains(&common) && own.versions.contains(&common));
    }
}
