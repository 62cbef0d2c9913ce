//! What the frames of a host mean to the decoder.

use crate::{
    host::protocol::{CommandHead, CommandMeaning, Frame, Kind, SpawnFailure},
    session::{DecodedBatch, Record, RecordDecoder},
};

/// Decodes a frame from a host, if it is a record.
pub(super) fn decode(frame: &Frame, decoder: &mut RecordDecoder, batch: &mut DecodedBatch) {
    let payload = frame.payload.as_ref();
    let record = match frame.kind {
        Kind::Output => Record::Output { count: frame.count, bytes: payload },
        Kind::Command => {
            let head = serde_json::from_slice::<CommandHead>(payload);
            Record::Command(head.map_or(CommandMeaning::Reply, |head| head.meaning))
        }
        Kind::SpawnFailed => {
            Record::SpawnFailed(serde_json::from_slice(payload).unwrap_or(SpawnFailure::Other))
        }
        Kind::Exited => Record::Exited(serde_json::from_slice(payload).unwrap_or_default()),
        Kind::OutputClosed => Record::OutputClosed,
        Kind::Skipped => {
            let (bytes, prefix) = payload
                .split_first_chunk()
                .map_or((0, &[][..]), |(bytes, prefix)| (u64::from_le_bytes(*bytes), prefix));
            Record::Skipped { bytes, prefix }
        }
        Kind::Hello | Kind::Ended | Kind::Stuck | Kind::Pipe | Kind::Recall | Kind::Known | Kind::Grown => {
            return;
        }
    };
    if frame.count > 0 {
        decoder.record(frame.first, record, batch);
    }
}
