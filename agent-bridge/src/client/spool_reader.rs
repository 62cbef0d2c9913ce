//! Reads the spool of a host in the order of positions: the agent's output, and between its bytes the notes.

use std::{collections::VecDeque, io, path::Path};

use bytes::BytesMut;

use crate::{
    dialect::Framing,
    exec::lines::{LineSplitter, Piece, SkippedLine},
    host::{
        output::SpooledOutput,
        position::Position,
        protocol::{Frame, Kind},
    },
};

/// What comes next in a spool.
#[derive(Debug)]
pub(super) enum SpoolPiece {
    /// Whole lines, or in dialect `text` any bytes, from this offset on.
    Output(u64, BytesMut),
    /// The last line of a process, which lacked its newline, at this position.
    LastLine(u64, BytesMut),
    /// A line that was too long, at this position.
    Skipped(u64, SkippedLine),
    Note(Frame),
}

/// A spool, as far as it was read.
#[derive(Debug)]
pub(super) struct SpoolReader {
    pub(super) output: SpooledOutput,
    framing: Framing,
    splitter: LineSplitter,
    /// Bytes that were read and are in no piece yet.
    buffer: BytesMut,
    /// The offset of the end of all pieces of output.
    decoded: u64,
    /// The offset of the end of the bytes that were read.
    read: u64,
    /// The offset up to which there is output to be read.
    end: u64,
    /// Notes that come next, in order.
    notes: VecDeque<Frame>,
    /// The position of the last note that was received, or from behind which on the spool is read.
    noted: u64,
    /// What there was when this gateway found the spool: the end of the output and the last note. No output is read before
    /// all these notes have been received.
    found: (u64, u64),
}

impl SpoolReader {
    /// Opens the spool in a directory, to be read from behind a position on. The notes come from the host.
    ///
    /// # Errors
    /// If the output in it cannot be read, or a part of what is wanted is missing.
    pub(super) fn open(
        dir: &Path,
        framing: Framing,
        position: u64,
        limit: u64,
        longest_line: usize,
    ) -> io::Result<Self> {
        let output = SpooledOutput::open(dir, limit)?;
        let ((first, end), decoded) = (output.range(), Position::offset(position));
        if decoded < first || decoded > end {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "a part of the agent's output is missing",
            ));
        }
        Ok(Self {
            output,
            framing,
            splitter: LineSplitter::new(longest_line),
            buffer: BytesMut::new(),
            decoded,
            read: decoded,
            end,
            notes: VecDeque::new(),
            noted: position,
            found: (end, 0),
        })
    }

    /// Sets the position of the last note from before this gateway, and up to where there is output.
    pub(super) fn found(&mut self, end: u64, noted: u64) {
        self.found = (end, noted);
        self.end = self.end.max(end);
    }

    /// The offset up to which output was given out.
    pub(super) fn decoded(&self) -> u64 {
        self.decoded
    }

    /// Notes that there is output up to this offset.
    pub(super) fn grown(&mut self, end: u64) {
        self.end = self.end.max(end);
    }

    /// The position of the last note that was received.
    pub(super) fn noted(&self) -> u64 {
        self.noted
    }

    pub(super) fn add_note(&mut self, note: Frame) {
        self.noted = self.noted.max(note.first);
        self.grown(Position::offset(note.first));
        self.notes.push_back(note);
    }

    /// Whether everything was given out that there was when this gateway found the spool.
    pub(super) fn is_caught_up(&self) -> bool {
        let (end, noted) = self.found;
        self.noted >= noted && self.read >= end && self.notes.is_empty()
    }

    /// The next piece, for which at most about `about` bytes are read. `None` if there is nothing at present. Output is
    /// given out only if `reads_output`.
    ///
    /// # Errors
    /// If the output cannot be read.
    pub(super) fn next(&mut self, reads_output: bool, about: usize) -> io::Result<Option<SpoolPiece>> {
        if self.noted < self.found.1 {
            return Ok(None);
        }
        loop {
            let next_note = self.notes.front().map(|note| Position::offset(note.first));
            if next_note.is_none_or(|offset| offset > self.decoded) && reads_output {
                if let Some(piece) = self.split() {
                    return Ok(Some(piece));
                }
                let end = next_note.unwrap_or(u64::MAX).min(self.end);
                if self.read < end {
                    self.read(end, about)?;
                    continue;
                }
                if next_note.is_some()
                    && let Some(piece) = self.last_line()
                {
                    return Ok(Some(piece));
                }
            }
            // Output in front of the note waits.
            let waits = !reads_output && next_note.is_some_and(|offset| offset > self.decoded);
            return Ok(if waits { None } else { self.notes.pop_front().map(SpoolPiece::Note) });
        }
    }

    fn read(&mut self, end: u64, about: usize) -> io::Result<()> {
        if self.output.range().1 <= self.read {
            self.output.look_again()?;
        }
        let most = usize::try_from(end - self.read).unwrap_or(usize::MAX).min(about.max(1));
        self.read += self.output.read(self.read, most, &mut self.buffer)? as u64;
        Ok(())
    }

    /// Takes a piece out of what was read.
    fn split(&mut self) -> Option<SpoolPiece> {
        match self.framing {
            Framing::Reads if self.buffer.is_empty() => None,
            Framing::Reads => Some(Piece::Lines(self.buffer.split())),
            Framing::Lines { .. } => self.splitter.next(&mut self.buffer),
        }
        .map(|piece| self.given(piece))
    }

    fn given(&mut self, piece: Piece) -> SpoolPiece {
        // Bytes of a line that is being skipped are not in the buffer any more.
        let start = std::mem::replace(&mut self.decoded, self.read - self.buffer.len() as u64);
        match piece {
            Piece::Lines(bytes) => SpoolPiece::Output(start, bytes),
            Piece::Skipped(line) => SpoolPiece::Skipped(Position::of_output(self.decoded), line),
        }
    }

    /// What a process has written behind its last newline, if the next note is about its end.
    fn last_line(&mut self) -> Option<SpoolPiece> {
        let next = self.notes.front()?.kind;
        let ends = matches!(next, Kind::Exited | Kind::OutputClosed);
        let rest = if ends { self.splitter.rest(&mut self.buffer) } else { None }?;
        self.decoded = self.read;
        let position = Position::of_output(self.decoded);
        Some(match rest {
            Piece::Lines(bytes) => SpoolPiece::LastLine(position, bytes),
            Piece::Skipped(line) => SpoolPiece::Skipped(position, line),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::{
        host::{
            notes::{self, Notes},
            protocol::record_head,
        },
        session::decoder::tests::{Recorded, records},
    };

    const LIMIT: u64 = 1 << 20;
    const LINES: Framing = Framing::Lines { turn_end: None };

    fn spool(output: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("output.0"), output).unwrap();
        dir
    }

    fn reader(dir: &tempfile::TempDir, position: u64) -> SpoolReader {
        SpoolReader::open(dir.path(), LINES, position, LIMIT, 20).unwrap()
    }

    fn note(kind: Kind, position: u64, payload: &str) -> Frame {
        let mut bytes = BytesMut::from(&record_head(kind, position, 1, payload.len())[..]);
        bytes.extend_from_slice(payload.as_bytes());
        Frame::next(&mut bytes, 1 << 20).unwrap().unwrap()
    }

    /// The next piece in short.
    fn next(reader: &mut SpoolReader, reads_output: bool, about: usize) -> Option<String> {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        Some(match reader.next(reads_output, about).unwrap()? {
            SpoolPiece::Output(offset, bytes) => format!("{offset} {:?}", text(&bytes)),
            SpoolPiece::LastLine(position, bytes) => {
                format!("last {} {:?}", Position::offset(position), text(&bytes))
            }
            SpoolPiece::Skipped(position, line) => {
                format!("skipped {} {}", Position::offset(position), line.bytes)
            }
            SpoolPiece::Note(note) => format!("note {:?}", text(&note.payload)),
        })
    }

    fn all(reader: &mut SpoolReader, about: usize) -> Vec<String> {
        std::iter::from_fn(|| next(reader, true, about)).collect()
    }

    #[test]
    fn notes_come_in_their_places() {
        let dir = spool("one\ntwo\nthree\nrest");
        let mut written = Notes::new(dir.path(), 1);
        for (offset, text) in [(0, "start"), (4, "prompt"), (4, "answer"), (14, "late")] {
            written.append(Kind::Command, offset, text.as_bytes()).unwrap();
        }
        written.append(Kind::Exited, 18, b"exit").unwrap();
        let mut reader = reader(&dir, 0);
        reader.found(18, written.last());
        assert_eq!(next(&mut reader, true, 100), None, "the notes are not there yet");
        let mut frames = notes::read(dir.path(), 0).unwrap().frames;
        while let Some(note) = Frame::next(&mut frames, 1 << 20).unwrap() {
            reader.add_note(note);
        }
        assert_eq!(next(&mut reader, false, 100).unwrap(), "note \"start\"");
        assert_eq!(next(&mut reader, false, 100), None, "output in front of the next note waits");
        assert_eq!(next(&mut reader, true, 100).unwrap(), "0 \"one\\n\"");
        assert!(!reader.is_caught_up());
        assert_eq!(
            all(&mut reader, 100),
            [
                "note \"prompt\"",
                "note \"answer\"",
                "4 \"two\\nthree\\n\"",
                "note \"late\"",
                "last 18 \"rest\\n\"",
                "note \"exit\""
            ]
        );
        assert!(reader.is_caught_up());
    }

    #[test]
    fn pieces_do_not_depend_on_how_much_is_read_at_once() {
        let text = "one\n\ntwo\n".to_owned() + &"x".repeat(50) + "\nthree\nhalf";
        let dir = spool(&text);
        for about in 1..text.len() {
            let mut reader = reader(&dir, 0);
            let (mut lines, mut skipped) = (String::new(), Vec::new());
            while let Some(piece) = reader.next(true, about).unwrap() {
                match piece {
                    SpoolPiece::Output(offset, bytes) => {
                        assert!(text.as_bytes()[offset as usize..].starts_with(&bytes));
                        lines.push_str(std::str::from_utf8(&bytes).unwrap());
                    }
                    SpoolPiece::Skipped(position, line) => {
                        skipped.push((Position::offset(position), line.bytes))
                    }
                    other @ (SpoolPiece::LastLine(..) | SpoolPiece::Note(_)) => panic!("{other:?}"),
                }
            }
            assert_eq!((lines.as_str(), &skipped[..]), ("one\n\ntwo\nthree\n", &[(60, 50)][..]));
            assert_eq!(reader.decoded(), 66);
        }
    }

    #[test]
    fn recorded_output_gives_the_same_lines_however_it_arrives() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/claude");
        for path in std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
            let mut output = Vec::new();
            for record in records(&std::fs::read_to_string(&path).unwrap()) {
                if let Recorded::Line(line) = record {
                    output.extend(line);
                }
            }
            // Each read ends at another byte of the longer lines, and at each byte of the shorter ones.
            for about in (1..=64).chain([100, 1_000, 4_093]) {
                let dir = spool("");
                let mut file =
                    std::fs::File::options().append(true).open(dir.path().join("output.0")).unwrap();
                let mut reader = SpoolReader::open(dir.path(), LINES, 0, 1 << 30, 1 << 20).unwrap();
                let (mut written, mut found) = (0, Vec::new());
                // The agent writes meanwhile, and stops in the middle of lines.
                for end in [output.len() / 3, output.len() / 2, output.len()] {
                    file.write_all(&output[written..end]).unwrap();
                    written = end;
                    reader.grown(end as u64);
                    while let Some(piece) = reader.next(true, about).unwrap() {
                        let SpoolPiece::Output(offset, bytes) = piece else { panic!("{piece:?}") };
                        assert_eq!(offset as usize, found.len());
                        assert!(bytes.ends_with(b"\n"));
                        found.extend_from_slice(&bytes);
                    }
                }
                assert!(found == output, "{} with {about} bytes a read", path.display());
            }
        }
    }

    #[test]
    fn a_command_in_the_middle_of_a_long_line_comes_before_it() {
        let dir = spool(&"x".repeat(50));
        let mut reader = reader(&dir, 0);
        assert_eq!(next(&mut reader, true, 100), None);
        let place = Position::of_note(reader.decoded(), 0).unwrap();
        reader.add_note(note(Kind::Command, place, "cancel"));
        assert_eq!(all(&mut reader, 100), ["note \"cancel\""]);
        std::fs::write(dir.path().join("output.0"), "x".repeat(50) + "\nnext\n").unwrap();
        reader.grown(56);
        assert_eq!(all(&mut reader, 100), ["skipped 51 50", "51 \"next\\n\""]);
    }

    #[test]
    fn a_spool_without_what_comes_next_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("output.100"), "line\n").unwrap();
        let open = |position| SpoolReader::open(dir.path(), LINES, position, LIMIT, 20).map(drop);
        assert!(open(Position::of_output(99)).is_err() && open(Position::of_output(106)).is_err());
        assert!(open(Position::of_output(100)).is_ok() && open(Position::of_output(105)).is_ok());
        let mut reader = reader(&dir, Position::of_output(100));
        // Output that the host has claimed and that is not there.
        reader.grown(200);
        assert_eq!(next(&mut reader, true, 100).unwrap(), "100 \"line\\n\"");
        assert!(reader.next(true, 100).is_err());
    }
}
