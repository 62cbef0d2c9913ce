//! Writes log lines to standard error on a separate thread. Callers never wait and never see an error: lines that do
//! not fit into the buffer, or that cannot be written, are counted and dropped.

use std::{
    io::{self, ErrorKind, Write},
    mem,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

/// Most bytes of log lines in the buffer. As many again may be in the batch that is being written.
const WAITING_BYTES: usize = 1024 * 1024;
/// Most capacity that a written batch retains, in bytes.
const RETAINED_BYTES: usize = 64 * 1024;
/// Delay before another write to a non-blocking file that was full.
const RETRY: Duration = Duration::from_millis(10);

/// Makes the log line that reports the number of lost lines. The line ends with a newline.
pub(super) type Notice = fn(lost: u64) -> String;

/// A buffer of log lines from any thread, which a separate thread writes.
#[derive(Debug)]
pub(super) struct LossyWriter {
    state: Mutex<State>,
    /// Notified when there are lines to write.
    filled: Condvar,
    /// Notified when a batch was written.
    written: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: Vec<u8>,
    /// Lines that did not fit into the buffer since the last write.
    dropped: u64,
    is_writing: bool,
}

impl State {
    fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.dropped == 0
    }
}

impl LossyWriter {
    /// Starts a writer to `file`, whose writes may block or fail.
    ///
    /// # Errors
    ///
    /// The system refuses to start the thread.
    pub(super) fn start(file: impl Write + Send + 'static, notice: Notice) -> io::Result<Arc<Self>> {
        let writer =
            Arc::new(Self { state: Mutex::default(), filled: Condvar::new(), written: Condvar::new() });
        let shared = Arc::clone(&writer);
        let file = LogFile { file, notice, lost: 0, is_torn: false };
        thread::Builder::new().name("log".into()).spawn(move || shared.run(file))?;
        Ok(writer)
    }

    /// Adds complete lines to the buffer, or counts them as dropped if they do not fit.
    pub(super) fn push(&self, lines: &[u8]) {
        let mut state = self.lock();
        if state.waiting.len() + lines.len() > WAITING_BYTES {
            state.dropped += count(lines);
        } else {
            state.waiting.extend_from_slice(lines);
        }
        drop(state);
        self.filled.notify_one();
    }

    /// Waits until all lines are written or lost, for at most `limit`. Returns false if the time was too short.
    pub(super) fn wait_until_written(&self, limit: Duration) -> bool {
        let busy = |state: &mut State| state.is_writing || !state.is_empty();
        let waited = self.written.wait_timeout_while(self.lock(), limit, busy);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        !busy(&mut state)
    }

    /// Writes batches for ever; the thread ends with the process.
    fn run(&self, mut file: LogFile<impl Write>) {
        let mut batch = Vec::new();
        loop {
            let mut state = self.lock();
            state.is_writing = false;
            self.written.notify_all();
            let mut state = self
                .filled
                .wait_while(state, |state| state.is_empty())
                .unwrap_or_else(PoisonError::into_inner);
            mem::swap(&mut batch, &mut state.waiting);
            let dropped = mem::take(&mut state.dropped);
            state.is_writing = true;
            drop(state);
            file.write_batch(&batch, dropped);
            batch.clear();
            batch.shrink_to(RETAINED_BYTES);
        }
    }

    /// Locks the state. Poisoning is ignored, since a panic leaves the state consistent.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `tracing_subscriber::fmt` makes one write per event.
impl Write for &LossyWriter {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        self.push(lines);
        Ok(lines.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct LogFile<W> {
    file: W,
    notice: Notice,
    /// Lost lines that no notice has reported yet.
    lost: u64,
    /// Whether the last line was written only in part.
    is_torn: bool,
}

impl<W: Write> LogFile<W> {
    /// Writes lines, and reports the `dropped` lines that would have followed them.
    fn write_batch(&mut self, batch: &[u8], dropped: u64) {
        self.report_lost_lines();
        self.lost += self.write(batch);
        if dropped > 0 {
            self.lost += dropped;
            self.report_lost_lines();
        }
    }

    fn report_lost_lines(&mut self) {
        if self.lost > 0 && self.write((self.notice)(self.lost).as_bytes()) == 0 {
            self.lost = 0;
        }
    }

    /// Returns how many lines could not be written whole.
    fn write(&mut self, lines: &[u8]) -> u64 {
        if self.is_torn && self.put(b"\n") == 1 {
            self.is_torn = false;
        }
        let written = self.put(lines);
        self.is_torn |= written > 0 && !lines[..written].ends_with(b"\n");
        count(&lines[written..])
    }

    /// Returns how many bytes were written before the first error.
    fn put(&mut self, bytes: &[u8]) -> usize {
        let mut written = 0;
        while written < bytes.len() {
            match self.file.write(&bytes[written..]) {
                Ok(0) => break,
                Ok(n) => written += n,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // Another program that shares standard error has made it non-blocking.
                Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(RETRY),
                Err(_) => break,
            }
        }
        written
    }
}

fn count(lines: &[u8]) -> u64 {
    lines.iter().filter(|byte| **byte == b'\n').count() as u64
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    fn notice(lost: u64) -> String {
        format!("lost {lost}\n")
    }

    /// What is written to a file that a test blocks and breaks.
    #[derive(Clone, Default)]
    struct Disk(Arc<Mutex<(Vec<u8>, usize)>>);

    impl Disk {
        fn with_room(room: usize) -> Self {
            Self(Arc::new(Mutex::new((Vec::new(), room))))
        }

        fn set_room(&self, room: usize) {
            self.0.lock().unwrap().1 = room;
        }

        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().0.clone()).unwrap()
        }
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut disk = self.0.lock().unwrap();
            let n = bytes.len().min(disk.1);
            disk.0.extend_from_slice(&bytes[..n]);
            disk.1 -= n;
            if n == 0 { Err(ErrorKind::StorageFull.into()) } else { Ok(n) }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Says that it is written to, and waits until it may.
    struct Gate(mpsc::Sender<()>, mpsc::Receiver<()>, Disk);

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.0.send(());
            let _ = self.1.recv();
            self.2.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_that_find_no_room_are_counted_and_nobody_waits() {
        let (reached, at_gate) = mpsc::channel();
        let (open, opened) = mpsc::channel();
        let disk = Disk::with_room(usize::MAX);
        let writer = LossyWriter::start(Gate(reached, opened, disk.clone()), notice).unwrap();
        writer.push(b"first\n");
        at_gate.recv().unwrap();
        // The thread is blocked; this returns all the same.
        let line = [&[b'x'; 1023][..], b"\n"].concat();
        let fits = WAITING_BYTES / line.len();
        for _ in 0..fits + 7 {
            writer.push(&line);
        }
        assert_eq!(writer.lock().waiting.len(), WAITING_BYTES);
        assert!(
            !writer.wait_until_written(Duration::ZERO),
            "an end does not wait for a file that does not take it"
        );
        drop(open);
        assert!(writer.wait_until_written(PATIENCE));
        let text = disk.text();
        assert_eq!(text.lines().count(), 1 + fits + 1);
        assert!(text.starts_with("first\nx"));
        assert!(text.ends_with("x\nlost 7\n"), "{}", &text[text.len() - 20..]);
        assert!(writer.lock().waiting.capacity() <= WAITING_BYTES);
    }

    #[test]
    fn a_line_without_end_is_lost_alone() {
        let disk = Disk::with_room(usize::MAX);
        let writer = LossyWriter::start(disk.clone(), notice).unwrap();
        writer.push(&[&[b'x'; WAITING_BYTES][..], b"\n"].concat());
        assert!(writer.wait_until_written(PATIENCE));
        writer.push(b"next\n");
        assert!(writer.wait_until_written(PATIENCE));
        assert_eq!(disk.text(), "lost 1\nnext\n");
    }

    #[test]
    fn errors_are_swallowed_and_lines_lost_to_them_counted() {
        let disk = Disk::with_room(6);
        let writer = LossyWriter::start(disk.clone(), notice).unwrap();
        let mut tracing = &*writer;
        tracing.write_all(b"one\ntwo\nthree\n").unwrap();
        assert!(writer.wait_until_written(PATIENCE));
        tracing.write_all(b"four\n").unwrap();
        assert!(writer.wait_until_written(PATIENCE));
        disk.set_room(usize::MAX);
        tracing.write_all(b"five\n").unwrap();
        assert!(writer.wait_until_written(PATIENCE));
        assert_eq!(disk.text(), "one\ntw\nlost 3\nfive\n", "also a line that was torn");
        tracing.write_all(b"six\n").unwrap();
        assert!(writer.wait_until_written(PATIENCE));
        assert_eq!(disk.text(), "one\ntw\nlost 3\nfive\nsix\n", "said once");
    }

    #[test]
    fn a_file_that_would_block_is_tried_again() {
        struct Busy(bool, Disk);

        impl Write for Busy {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0 = !self.0;
                if self.0 { Err(ErrorKind::WouldBlock.into()) } else { self.1.write(&bytes[..1]) }
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }

        let disk = Disk::with_room(usize::MAX);
        let writer = LossyWriter::start(Busy(false, disk.clone()), notice).unwrap();
        writer.push(b"one\ntwo\n");
        assert!(writer.wait_until_written(PATIENCE));
        assert_eq!(disk.text(), "one\ntwo\n");
    }
}
