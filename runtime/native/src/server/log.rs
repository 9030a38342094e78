//! Log lines on stderr. What can't be written is lost, and holds up nobody: neither a full disk, nor a pipe that is closed, nor one that is not read.

use std::io::{self, IsTerminal, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// Lines that wait to be written. Those after them are lost.
const WAITING: usize = 4096;

/// Lines of one kind that are written in a second.
const PER_SECOND: u32 = 10;

/// How long the end of a program waits for its last lines.
const LAST: Duration = Duration::from_secs(1);

static WRITER: OnceLock<SyncSender<Line>> = OnceLock::new();

enum Line {
    Text(Vec<u8>),
    /// Told when all before it is written.
    Flush(SyncSender<()>),
}

/// Writes log lines on stderr, as `RUST_LOG` says; coloured if a person reads them. They are written by a thread of their own.
pub fn log(json: bool) {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into());
    let (sender, lines) = sync_channel(WAITING);
    let thread = std::thread::Builder::new().name("log".to_owned()).spawn(move || write(lines, io::stderr()));
    if thread.is_err() {
        return;
    }
    let writer = sender.clone();
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(move || Lines(writer.clone())).log_internal_errors(false);
    // A program that embeds us may log already.
    let began = match json {
        true => builder.json().try_init(),
        false => builder.with_ansi(io::stderr().is_terminal()).try_init(),
    };
    if began.is_ok() {
        let _ = WRITER.set(sender);
    }
}

/// Waits until the lines so far are written, a second at most: for a program that is about to end.
pub fn flush() {
    let Some(writer) = WRITER.get() else { return };
    let (sender, written) = sync_channel(1);
    if writer.try_send(Line::Flush(sender)).is_ok() {
        let _ = written.recv_timeout(LAST);
    }
}

fn write(lines: Receiver<Line>, mut to: impl Write) {
    for line in lines {
        match line {
            Line::Text(text) => drop(to.write_all(&text)),
            Line::Flush(done) => drop(done.send(())),
        }
    }
}

/// Takes a line at a time.
struct Lines(SyncSender<Line>);

impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let _ = self.0.try_send(Line::Text(line.to_vec()));
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Keeps a flood of one kind of line out of the log.
pub(super) struct Throttle(Mutex<Window>);

struct Window {
    since: Option<Instant>,
    written: u32,
    left_out: u64,
}

impl Throttle {
    pub(super) const fn new() -> Throttle {
        Throttle(Mutex::new(Window { since: None, written: 0, left_out: 0 }))
    }

    /// Whether a line may be written now: then how many were left out since the last one.
    pub(super) fn pass(&self) -> Option<u64> {
        self.pass_at(Instant::now())
    }

    fn pass_at(&self, now: Instant) -> Option<u64> {
        let mut window = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if window.since.is_none_or(|since| now.saturating_duration_since(since) >= Duration::from_secs(1)) {
            window.since = Some(now);
            window.written = 0;
        }
        if window.written >= PER_SECOND {
            window.left_out += 1;
            return None;
        }
        window.written += 1;
        Some(std::mem::take(&mut window.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_counted_and_not_written() {
        let throttle = Throttle::new();
        let now = Instant::now();
        let passed: Vec<u64> = (0..1000).filter_map(|_| throttle.pass_at(now)).collect();
        assert_eq!(passed, [0; PER_SECOND as usize]);
        assert_eq!(throttle.pass_at(now + Duration::from_secs(1)), Some(1000 - u64::from(PER_SECOND)));
        assert_eq!(throttle.pass_at(now + Duration::from_secs(1)), Some(0));
    }

    /// Fails, as a full disk does.
    struct Full;

    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::StorageFull.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_that_cannot_be_written_are_lost_and_fail_nobody() {
        let (sender, lines) = sync_channel(2);
        let mut log = Lines(sender.clone());
        // Nobody writes yet: two wait, the others are lost.
        for _ in 0..5 {
            assert_eq!(log.write(b"line\n").expect("taken"), 5);
        }
        let thread = std::thread::spawn(move || write(lines, Full));
        drop((log, sender));
        thread.join().expect("it ends with its last sender");
    }
}
