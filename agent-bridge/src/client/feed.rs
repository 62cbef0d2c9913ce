//! Decodes what is in the spool of a host, alive or dead, and sends the events to the gateway, in large batches. While the
//! host is alive and hands it over, also moves the agent's output from its pipe to the spool.

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard},
};

use bytes::{Bytes, BytesMut};
use switchboard_core::agent::AgentRecords;
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    sync::{mpsc, watch},
    time::Instant,
};

use super::{
    awaited::Awaited,
    cadence::Cadence,
    feed_handle::{FeedHandle, Progress, lock},
    frames::decode,
    held_pipe::{HeldPipe, Moved},
    spool_reader::{SpoolPiece, SpoolReader},
};
use crate::{
    BridgeLimits,
    exec::{lines::SkippedLine, ports::RecordSink, process::until, read_mode::ReadMode},
    host::{
        directory::HostDirectory,
        notes,
        position::Position,
        protocol::{Action, CommandHead, CommandMeaning, Frame, Kind, Pipe, RECORD_HEAD, ToHost},
        socket::WriteHalf,
    },
    session::{DecodedBatch, Record, RecordDecoder, SessionState},
};

/// Why a feed ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FeedEnd {
    /// The host has closed the connection.
    Closed,
    /// A frame is invalid, or a part of the spool is missing.
    Broken,
}

impl From<io::Error> for FeedEnd {
    fn from(error: io::Error) -> Self {
        tracing::error!(%error, "an agent's spool cannot be read");
        Self::Broken
    }
}

pub(super) struct Feed<S> {
    decoder: Arc<Mutex<RecordDecoder>>,
    /// Always locked before the decoder.
    awaited: Arc<Mutex<Awaited>>,
    /// The host's directory.
    directory: HostDirectory,
    /// The spool; `None` for a host of version 2, which sends all records.
    spool: Option<SpoolReader>,
    pipe: Option<HeldPipe>,
    /// The connection to the host; the host reads its end when nobody has it any more.
    connection: Option<Arc<WriteHalf>>,
    /// When to try again to move output, because the disk is full or fails.
    retry: Option<Instant>,
    sink: S,
    /// Sender of messages to the host; closed when the instance ends.
    messages: mpsc::WeakUnboundedSender<Bytes>,
    progress: watch::Sender<Progress>,
    mode: watch::Receiver<ReadMode>,
    limits: BridgeLimits,
    cadence: Cadence,
    /// The position of the newest checkpoint that the log has.
    committed: watch::Receiver<u64>,
}

/// What happens next.
enum FeedEvent {
    /// The host has sent bytes, or closed the connection.
    Host(io::Result<usize>),
    /// The log has a newer checkpoint.
    Committed,
    /// There may be more output to be moved.
    Output,
    /// Events are not wanted any more.
    Unwanted,
}

/// Where the records of a feed come from.
pub(super) struct FeedSource {
    /// The spool; `None` for a host of version 2.
    pub(super) spool: Option<SpoolReader>,
    /// Where messages to the host go. Closed for a dead host.
    pub(super) messages: mpsc::WeakUnboundedSender<Bytes>,
    /// `None` for a dead host.
    pub(super) connection: Option<Arc<WriteHalf>>,
}

impl<S: RecordSink> Feed<S> {
    /// Makes the feed of an instance. `committed` is the position of the newest checkpoint that the log has.
    pub(super) fn new(
        limits: &BridgeLimits,
        directory: HostDirectory,
        decoder: RecordDecoder,
        sink: S,
        source: FeedSource,
        committed: watch::Receiver<u64>,
    ) -> (Self, FeedHandle) {
        let FeedSource { spool, messages, connection } = source;
        let awaited = Awaited::new(spool.as_ref().map(SpoolReader::decoded));
        let (decoder, awaited) = (Arc::new(Mutex::new(decoder)), Arc::new(Mutex::new(awaited)));
        let (mode, watched) = watch::channel(ReadMode::Live);
        let (progress, progressed) = watch::channel(Progress::default());
        let handle =
            FeedHandle { decoder: Arc::clone(&decoder), awaited: Arc::clone(&awaited), mode, progressed };
        let feed = Self {
            decoder,
            awaited,
            directory,
            spool,
            pipe: None,
            connection,
            retry: None,
            sink,
            messages,
            progress,
            mode: watched,
            limits: limits.clone(),
            cadence: Cadence::new(limits),
            committed,
        };
        (feed, handle)
    }

    /// Reads until the host closes the connection, or something is invalid. Returns the feed and the reason.
    pub(super) async fn run(
        mut self,
        mut host: impl AsyncRead + Unpin,
        mut buffer: BytesMut,
    ) -> (Self, FeedEnd) {
        // The log has what an earlier gateway decoded.
        let position = self.position();
        self.progress.send_modify(|progress| progress.sent = position);
        loop {
            let taken = match self.take(&mut buffer).await {
                Ok(()) => self.read_spool().await,
                Err(end) => Err(end),
            };
            if let Err(end) = taken {
                return (self, end);
            }
            buffer.reserve(self.limits.read_bytes);
            match self.next(&mut host, &mut buffer).await {
                FeedEvent::Host(Ok(0) | Err(_)) => return (self, FeedEnd::Closed),
                FeedEvent::Host(Ok(_)) => {}
                FeedEvent::Committed => self.let_go(),
                FeedEvent::Output => self.move_output().await,
                FeedEvent::Unwanted => self.return_pipe(),
            }
        }
    }

    async fn next(&mut self, host: &mut (impl AsyncRead + Unpin), buffer: &mut BytesMut) -> FeedEvent {
        let has_room = self.spool.as_ref().is_some_and(|spool| spool.output.has_room());
        let pipe = self.pipe.as_ref().filter(|_| has_room && self.retry.is_none());
        let (holds, retry) = (self.pipe.is_some(), self.retry);
        tokio::select! {
            biased;
            Ok(()) = self.committed.changed() => FeedEvent::Committed,
            read = host.read_buf(buffer) => FeedEvent::Host(read),
            Ok(_) = self.mode.wait_for(|mode| *mode == ReadMode::Discard), if holds => FeedEvent::Unwanted,
            () = async { match pipe {
                // An error is reported by the attempt to move output.
                Some(pipe) => drop(pipe.ready().await),
                None => std::future::pending().await,
            } } => FeedEvent::Output,
            () = until(retry) => FeedEvent::Output,
        }
    }

    /// Drops what the log has a checkpoint behind, and lets the host do so.
    fn let_go(&mut self) {
        let position = *self.committed.borrow_and_update();
        if let Some(spool) = &mut self.spool {
            spool.output.trim(Position::offset(position));
        }
        self.send_to_host(&ToHost::Trim { before: position + 1 });
    }

    /// Moves output from the agent's pipe to the spool.
    async fn move_output(&mut self) {
        self.retry = None;
        let (Some(pipe), Some(spool)) = (&self.pipe, &mut self.spool) else { return };
        match pipe.move_to(&mut spool.output, self.limits.read_bytes) {
            Ok(moved) => {
                spool.grown(spool.output.range().1);
                if moved == Moved::End {
                    // The host reports how the agent ended.
                    self.return_pipe();
                }
            }
            Err(error) => {
                tracing::warn!(%error, "an agent's output cannot be spooled; it waits");
                self.retry = Some(Instant::now() + self.limits.host.disk_retry);
                let mut batch = DecodedBatch::default();
                batch.agent_waits();
                self.hand_on(batch, 0, false).await;
            }
        }
    }

    fn return_pipe(&mut self) {
        // Closed before the host learns of it.
        if self.pipe.take().is_some() {
            self.retry = None;
            self.send_to_host(&ToHost::Return);
        }
    }

    /// Takes the pipe that the host hands over.
    async fn take_pipe(&mut self, payload: &[u8]) {
        let (Ok(asked), Some(connection)) = (serde_json::from_slice::<Pipe>(payload), &self.connection)
        else {
            return;
        };
        let longest = self.limits.host.start;
        let taken = HeldPipe::take(self.directory.clone(), asked, Arc::clone(connection), longest).await;
        let looked = self.spool.as_mut().map_or(Ok(()), |spool| spool.output.look_again());
        match taken.and_then(|pipe| looked.map(|()| pipe)) {
            Ok(pipe) => self.pipe = Some(pipe),
            Err(error) => {
                tracing::info!(%error, "an agent's output cannot be read here; its host passes it on");
                self.send_to_host(&ToHost::Return);
            }
        }
    }

    fn decoder(&self) -> MutexGuard<'_, RecordDecoder> {
        lock(&self.decoder)
    }

    /// See [`RecordDecoder::skip_to`].
    pub(super) fn skip_to(&self, position: u64) {
        self.decoder().skip_to(position);
    }

    /// See [`RecordDecoder::found_first`].
    pub(super) fn found_first(&self, first: u64) {
        self.decoder().found_first(first);
    }

    /// Position of the last decoded record.
    pub(super) fn position(&self) -> u64 {
        self.decoder().state().position
    }

    /// The instance's state according to the decoded records.
    pub(super) fn state(&self) -> SessionState {
        self.decoder().state().clone()
    }

    /// Takes all whole frames off the front of a buffer. Notes wait until the output in front of them is decoded.
    pub(super) async fn take(&mut self, buffer: &mut BytesMut) -> Result<(), FeedEnd> {
        // The longest frame: a command; of version 2 the longest line, and the bytes that were read together with its end.
        let longest = self
            .limits
            .host
            .command_bytes
            .max(self.limits.record_bytes + self.limits.read_bytes + RECORD_HEAD);
        let about = self.about();
        loop {
            let mut batch = DecodedBatch::default();
            let (mut bytes, mut ended, mut stuck) = (0, false, false);
            while bytes < about {
                let Some(frame) = Frame::next(buffer, longest).map_err(|_| FeedEnd::Broken)? else { break };
                bytes += RECORD_HEAD + frame.payload.len();
                match frame.kind {
                    Kind::Ended => ended = true,
                    Kind::Stuck => stuck = true,
                    Kind::Pipe => self.take_pipe(&frame.payload).await,
                    Kind::Recall => self.return_pipe(),
                    Kind::Known => lock(&self.awaited).was_known(&frame.payload),
                    Kind::Grown => self.grown(&frame.payload),
                    Kind::Hello => {}
                    Kind::Output
                    | Kind::Command
                    | Kind::SpawnFailed
                    | Kind::Exited
                    | Kind::OutputClosed
                    | Kind::Skipped => self.record(frame, &mut batch)?,
                }
            }
            if bytes == 0 {
                return Ok(());
            }
            if ended {
                // Everything in front of the end must have been sent. What was commanded since is not noted any more.
                lock(&self.awaited).clear();
                self.read_spool().await?;
            }
            if stuck {
                batch.agent_waits();
            }
            self.hand_on(batch, bytes, ended).await;
        }
    }

    /// Most bytes of one batch, roughly.
    fn about(&self) -> usize {
        self.limits.read_bytes.min(self.cadence.bytes())
    }

    fn grown(&mut self, payload: &[u8]) {
        if let (Some(spool), Ok(end)) = (&mut self.spool, payload.try_into()) {
            spool.grown(u64::from_le_bytes(end));
        }
    }

    /// Takes a record from the host: a note, or a record of version 2, which is decoded at once.
    fn record(&mut self, frame: Frame, batch: &mut DecodedBatch) -> Result<(), FeedEnd> {
        let mut awaited = lock(&self.awaited);
        if frame.kind == Kind::Command {
            awaited.came_back(&frame.payload);
        }
        match &mut self.spool {
            Some(spool) => spool.add_note(frame),
            None => {
                let mut decoder = lock(&self.decoder);
                if frame.count > 0 && frame.first > decoder.state().position + 1 {
                    return Err(FeedEnd::Broken);
                }
                decode(&frame, &mut decoder, batch);
            }
        }
        Ok(())
    }

    /// Decodes what is in the spool, and sends its events.
    pub(super) async fn read_spool(&mut self) -> Result<(), FeedEnd> {
        let about = self.about();
        while let Some((batch, bytes)) = self.decode_some(about)? {
            self.hand_on(batch, bytes, false).await;
        }
        if self.spool.as_ref().is_some_and(SpoolReader::is_caught_up) {
            self.progress.send_if_modified(|progress| !std::mem::replace(&mut progress.caught_up, true));
        }
        Ok(())
    }

    /// Decodes the rest of the spool of a host that is dead, as are all processes of its agent.
    pub(super) async fn read_dead_spool(&mut self) -> Result<(), FeedEnd> {
        let Some(spool) = &mut self.spool else { return Ok(()) };
        if let Some(pipe) = self.pipe.take() {
            while pipe.move_to(&mut spool.output, self.limits.read_bytes)? == Moved::Some
                && spool.output.has_room()
            {}
        }
        spool.output.look_again()?;
        spool.grown(spool.output.range().1);
        let known = spool.noted();
        let notes = notes::read(self.directory.dir(), known)?;
        let position = lock(&self.decoder).state().position;
        if Position::offset(position) > 0 && notes.first.is_none_or(|first| first > position) {
            tracing::error!("a part of an agent's notes is missing");
            return Err(FeedEnd::Broken);
        }
        let mut notes = notes.frames;
        let longest = notes.len();
        while let Some(note) = Frame::next(&mut notes, longest).map_err(|_| FeedEnd::Broken)? {
            if note.first > known {
                spool.add_note(note);
            }
        }
        lock(&self.awaited).clear();
        self.read_spool().await
    }

    /// Decodes about `about` bytes. Returns their events and their number; `None` if there is nothing at present.
    fn decode_some(&mut self, about: usize) -> Result<Option<(DecodedBatch, usize)>, FeedEnd> {
        let Some(spool) = &mut self.spool else { return Ok(None) };
        let mut awaited = lock(&self.awaited);
        let mut decoder = lock(&self.decoder);
        let (mut batch, mut bytes, mut found) = (DecodedBatch::default(), 0, false);
        while bytes < about
            && let Some(piece) = spool.next(awaited.is_empty(), about)?
        {
            found = true;
            match piece {
                SpoolPiece::Output(offset, output) => {
                    bytes += output.len();
                    decoder.spooled_output(offset, &output, &mut batch);
                }
                SpoolPiece::LastLine(position, line) => {
                    decoder.record(position, Record::Output { count: 1, bytes: &line }, &mut batch);
                }
                SpoolPiece::Skipped(position, SkippedLine { bytes: length, prefix }) => {
                    tracing::warn!(bytes = length, "a line of the agent is too long and is skipped");
                    decoder.record(position, Record::Skipped { bytes: length, prefix: &prefix }, &mut batch);
                }
                SpoolPiece::Note(note) => decode(&note, &mut decoder, &mut batch),
            }
        }
        awaited.decoded = Some(spool.decoded());
        Ok(found.then_some((batch, bytes)))
    }

    async fn hand_on(&mut self, mut batch: DecodedBatch, bytes: usize, ended: bool) {
        for (id, mut line) in batch.replies {
            line.push(b'\n');
            let head =
                CommandHead { id, action: Action::Write, opens_turn: false, meaning: CommandMeaning::Reply };
            let mut awaited = lock(&self.awaited);
            self.send_to_host(&awaited.command(head, line.into()));
        }
        // Before the records: a client that receives a turn's end may send the next prompt at once, and by then the
        // instance must know that the turn has ended.
        if batch.notable {
            self.progress.send_modify(|progress| progress.notable += 1);
        }
        let due = self.cadence.is_due_after(bytes as u64, batch.turn_ended);
        let (position, checkpoint) = {
            let decoder = self.decoder();
            // A checkpoint of its own needs a position of its own.
            let is_new = decoder.state().position > self.progress.borrow().sent;
            let due = due && is_new && !decoder.is_published();
            (decoder.state().position, if due { decoder.checkpoint() } else { None })
        };
        // The end of a turn is published only when it is on disk. Events before it need not wait for that.
        if let Some(cut) = batch.before_end {
            let rest = batch.events.split_off(cut.events);
            let events = std::mem::replace(&mut batch.events, rest);
            self.send(AgentRecords { position: cut.position, events, checkpoint: None }).await;
        }
        if checkpoint.is_some() {
            self.cadence.restart();
        }
        // Output without events needs checkpoints as well: what is behind them makes room in the spool.
        if !batch.events.is_empty() || checkpoint.is_some() {
            self.send(AgentRecords { position, events: batch.events, checkpoint }).await;
        }
        self.progress.send_modify(|progress| {
            progress.sent = position;
            progress.ended |= ended;
        });
    }

    async fn send(&mut self, records: AgentRecords) {
        let unwanted = async {
            let _ = self.mode.wait_for(|mode| *mode == ReadMode::Discard).await;
        };
        tokio::select! {
            biased;
            () = unwanted => {}
            // If the gateway is gone, the instance gets `AgentControl::Stop`.
            _ = self.sink.send(records) => {}
        }
    }

    fn send_to_host(&self, message: &ToHost) {
        if let Some(messages) = self.messages.upgrade() {
            // If the host is gone, the connection ends.
            let _ = messages.send(message.encode());
        }
    }
}

#[cfg(test)]
mod tests;
