//! Reads the spool of a dead host of version 2 of the protocol, which may have been killed in the middle of a turn while
//! Switchboard was replaced. To be removed in June 2027, with [`super::protocol::OLDEST_VERSION`].
//!
//! Such a spool has all records as frames, in files `spool.<position of the first record>`, and in the file `told` the
//! commands from the time in which the gateway read the output.

use std::{fs, io, path::Path};

use super::{
    numbered::numbered_files,
    protocol::{RECORD_HEAD, parse_record_head, split_record},
};

const PREFIX: &str = "spool.";
const COMMANDS: &str = "told";

/// Whether a host of version 2 has spooled anything in a directory.
pub(crate) fn has_records(dir: &Path) -> bool {
    let files = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut spools = files.filter(|file| {
        file.file_name().to_str().is_some_and(|name| name.starts_with(PREFIX) || name == COMMANDS)
    });
    spools.any(|file| file.metadata().is_ok_and(|meta| meta.len() > 0))
}

/// The frames of each file of a dead host's spool, from the file that contains `position` on.
pub(crate) fn read_dead(dir: &Path, position: u64) -> io::Result<impl Iterator<Item = io::Result<Vec<u8>>>> {
    let segments = numbered_files(dir, PREFIX)?;
    let from = segments.partition_point(|(first, _)| *first <= position).saturating_sub(1);
    Ok(segments.into_iter().skip(from).map(|(first, path)| {
        let mut bytes = fs::read(path)?;
        bytes.truncate(frames_length(&bytes, first));
        Ok(bytes)
    }))
}

/// Positions and frames of the commands that a dead host stored while the output was lent. The output between them is
/// lost; some of the commands may be in the spool as well.
pub(crate) fn read_stored_commands(dir: &Path) -> io::Result<Vec<(u64, Vec<u8>)>> {
    let bytes = match fs::read(dir.join(COMMANDS)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        read => read?,
    };
    let (mut commands, mut rest) = (Vec::new(), &bytes[..]);
    while let Some((position, frame, behind)) = split_record(rest) {
        commands.push((position, frame.to_vec()));
        rest = behind;
    }
    Ok(commands)
}

/// Length of the whole frames in `bytes`, the first of which has position `first`. Excludes an incomplete frame at the
/// end and old content of a reused file.
fn frames_length(bytes: &[u8], first: u64) -> usize {
    let (mut length, mut expected) = (0, first);
    while let Some(head) = bytes[length..].first_chunk::<RECORD_HEAD>()
        && let Some((position, count, bytes_long)) = parse_record_head(head)
        && let Ok(frame) = usize::try_from(bytes_long)
        && position == expected
        && frame <= bytes.len() - length
    {
        length += frame;
        expected = expected.saturating_add(u64::from(count));
    }
    length
}

/// The position of the first record in a dead host's spool.
pub(crate) fn first_position(dir: &Path) -> Option<u64> {
    numbered_files(dir, PREFIX).ok()?.first().map(|(first, _)| *first)
}
