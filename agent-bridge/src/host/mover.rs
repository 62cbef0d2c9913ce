//! Moves the agent's output from its pipe into the spool, as long as no gateway does.

use std::{
    io,
    os::fd::OwnedFd,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::BytesMut;
use tokio::{
    net::unix::pipe,
    sync::{Notify, watch},
    time::sleep,
};

use super::output::SpooledOutput;
use crate::{BridgeLimits, dialect::Framing, exec::read_mode::ReadMode};

/// Most bytes of output that are searched at once.
const SEARCH_BYTES: usize = 256 * 1024;

/// The output in the spool of a running host, shared by the host's tasks.
#[derive(Debug)]
pub(super) struct HostOutput {
    output: Mutex<SpooledOutput>,
    /// The offset up to which this host has moved output.
    end: watch::Sender<u64>,
    trimmed: Notify,
    /// Notified when output could not be moved, because the disk is full or fails.
    pub(super) stuck: Notify,
    /// Notified when the output looks as if a turn had ended.
    pub(super) turn_ended: Notify,
}

impl HostOutput {
    /// # Errors
    /// As [`SpooledOutput::open`].
    pub(super) fn open(dir: &Path, limit: u64) -> io::Result<Self> {
        let output = SpooledOutput::open(dir, limit)?;
        let end = watch::channel(output.range().1).0;
        let (trimmed, stuck, turn_ended) = Default::default();
        Ok(Self { output: Mutex::new(output), end, trimmed, stuck, turn_ended })
    }

    fn output(&self) -> MutexGuard<'_, SpooledOutput> {
        self.output.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn watch_end(&self) -> watch::Receiver<u64> {
        self.end.subscribe()
    }

    /// The offsets of the first byte that is still there, and of the end, also if a gateway has moved output.
    ///
    /// # Errors
    /// As [`SpooledOutput::open`].
    pub(super) fn range(&self) -> io::Result<(u64, u64)> {
        let mut output = self.output();
        output.look_again()?;
        let range = output.range();
        self.end.send_if_modified(|end| std::mem::replace(end, range.1) != range.1);
        Ok(range)
    }

    /// See [`SpooledOutput::trim`].
    pub(super) fn trim(&self, before: u64) {
        self.output().trim(before);
        self.trimmed.notify_one();
    }

    /// Whether the output from an offset on looks as if a turn had ended.
    pub(super) fn may_end_turn(&self, framing: &Framing, from: u64) -> bool {
        let Framing::Lines { turn_end: Some(text) } = framing else { return false };
        let (output, mut bytes) = (self.output(), BytesMut::new());
        let (first, end) = output.range();
        let mut offset = first.max(from.saturating_sub(text.len() as u64 - 1));
        while offset < end
            && let Ok(read) = output.read(offset, SEARCH_BYTES, &mut bytes)
        {
            if memchr::memmem::find(&bytes, text.as_bytes()).is_some() {
                return true;
            }
            offset += read as u64;
            let searched = bytes.len().saturating_sub(text.len() - 1);
            let _ = bytes.split_to(searched);
        }
        false
    }
}

/// The task that moves the output of one process.
pub(super) struct Mover {
    pipe: pipe::Receiver,
    output: Arc<HostOutput>,
    framing: Framing,
    mode: watch::Receiver<ReadMode>,
    limits: BridgeLimits,
}

/// What one attempt to move output has shown.
enum Step {
    Moved,
    /// Nothing is there at present.
    Empty,
    /// The agent has closed its output.
    End,
    /// The disk is full or fails.
    Stuck,
}

impl Mover {
    /// # Errors
    /// If the runtime cannot watch the pipe.
    pub(super) fn new(
        pipe: OwnedFd,
        output: Arc<HostOutput>,
        framing: Framing,
        mode: watch::Receiver<ReadMode>,
        limits: BridgeLimits,
    ) -> io::Result<Self> {
        let pipe = pipe::Receiver::from_owned_fd_unchecked(pipe)?;
        Ok(Self { pipe, output, framing, mode, limits })
    }

    /// Moves output until the agent has closed it, or has exited and its output has been silent since. May be ended at any
    /// moment: then every byte is in the pipe or in the spool.
    pub(super) async fn run(mut self) {
        loop {
            let mode = *self.mode.borrow_and_update();
            let has_room = self.output.output().has_room();
            let moves = has_room || mode == ReadMode::Discard;
            let silence = sleep(self.limits.drain);
            tokio::select! {
                biased;
                changed = self.mode.changed() => if changed.is_err() { return },
                () = self.output.trimmed.notified(), if !moves => {}
                ready = self.pipe.readable(), if moves => {
                    let step = if ready.is_err() { Step::End } else { self.step(has_room) };
                    match step {
                        // Other tasks of this thread go on before more is moved.
                        Step::Moved => tokio::task::yield_now().await,
                        Step::Empty => {}
                        Step::End => return,
                        Step::Stuck => {
                            self.output.stuck.notify_one();
                            sleep(self.limits.host.disk_retry).await;
                        }
                    }
                }
                () = silence, if moves && mode == ReadMode::Drain => return,
            }
        }
    }

    fn step(&self, has_room: bool) -> Step {
        let before = self.output.output().range().1;
        let moved = self.pipe.try_io(|| {
            if has_room { self.output.output().take_from(&self.pipe) } else { discard(&self.pipe) }
        });
        match moved {
            Ok(0) => Step::End,
            Ok(_) => {
                self.output.end.send_replace(self.output.output().range().1);
                if self.output.may_end_turn(&self.framing, before) {
                    self.output.turn_ended.notify_one();
                }
                Step::Moved
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                Step::Empty
            }
            Err(error) => {
                tracing::warn!(%error, "an agent's output cannot be spooled; it waits");
                Step::Stuck
            }
        }
    }
}

/// Reads bytes that nobody wants, so that the agent does not wait for room in its pipe.
fn discard(pipe: &pipe::Receiver) -> io::Result<usize> {
    Ok(rustix::io::read(pipe, &mut [0; 16 * 1024])?)
}

#[cfg(test)]
mod tests {
    use std::{
        io::{PipeWriter, Write as _, pipe},
        time::Duration,
    };

    use rustix::io::ioctl_fionbio;
    use tokio::task::JoinHandle;

    use super::*;

    struct World {
        dir: tempfile::TempDir,
        output: Arc<HostOutput>,
        mode: watch::Sender<ReadMode>,
        writer: PipeWriter,
        moving: JoinHandle<()>,
    }

    fn world(limit: u64) -> World {
        let dir = tempfile::tempdir().unwrap();
        let output = Arc::new(HostOutput::open(dir.path(), limit).unwrap());
        let (reader, writer) = pipe().unwrap();
        ioctl_fionbio(&reader, true).unwrap();
        let (mode, watched) = watch::channel(ReadMode::Live);
        let framing = Framing::Lines { turn_end: Some("the end".into()) };
        let mut limits = BridgeLimits { drain: Duration::from_millis(20), ..BridgeLimits::default() };
        limits.host.disk_retry = Duration::from_millis(1);
        let mover = Mover::new(reader.into(), Arc::clone(&output), framing, watched, limits).unwrap();
        World { dir, output, mode, writer, moving: tokio::spawn(mover.run()) }
    }

    #[tokio::test]
    async fn the_end_of_a_turn_is_seen_also_in_two_pieces() {
        let mut world = world(1 << 20);
        let mut end = world.output.watch_end();
        for (piece, offset) in [("some text, th", 13), ("e en", 17), ("d\n", 19)] {
            world.writer.write_all(piece.as_bytes()).unwrap();
            end.wait_for(|end| *end == offset).await.unwrap();
        }
        world.output.turn_ended.notified().await;
        let framing = Framing::Lines { turn_end: Some("the end".into()) };
        assert_eq!(
            [0, 12, 17, 19].map(|from| world.output.may_end_turn(&framing, from)),
            [true, true, true, false]
        );
        drop(world.writer);
        world.moving.await.unwrap();
    }

    #[tokio::test]
    async fn a_full_spool_makes_the_agent_wait_unless_nobody_wants_its_output() {
        let World { dir: _dir, output, mode, mut writer, moving } = world(64 * 1024);
        let writing = std::thread::spawn(move || writer.write_all(&vec![b'x'; 1 << 20]).unwrap());
        let mut end = output.watch_end();
        end.wait_for(|end| *end >= 64 * 1024).await.unwrap();
        let full = output.range().unwrap().1;
        output.trim(full);
        end.wait_for(|end| *end >= full + 32 * 1024).await.unwrap();
        assert!(!writing.is_finished());
        mode.send_replace(ReadMode::Discard);
        moving.await.unwrap();
        writing.join().unwrap();
    }

    #[tokio::test]
    async fn an_agent_that_has_exited_is_read_until_its_output_is_silent() {
        let mut world = world(1 << 20);
        world.mode.send_replace(ReadMode::Drain);
        world.writer.write_all(b"the last line\n").unwrap();
        world.moving.await.unwrap();
        assert_eq!(world.output.range().unwrap(), (0, 14));
        drop((world.writer, world.dir));
    }
}
