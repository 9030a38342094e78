//! The head of a file, read in growing windows.
//!
//! Nothing is allocated on a file's word: a length is first held against the source's own, and bytes are asked for as parsing
//! reaches them. With old and new buffer counted together, memory stays below twice the bytes read plus one window.

use firecrest_weights::ByteSource;

use crate::error::{Error, Result};

/// The first read.
const FIRST_WINDOW: usize = 64 << 10;
/// The most that is read ahead of need.
const LAST_WINDOW: usize = 512 << 10;
/// The longest head that is believed. The largest in use, with a whole tokenizer.json among the metadata, take about 50 MB.
const LONGEST: u64 = 128 << 20;

/// A cursor over the head of a source.
pub(super) struct Head<'a> {
    source: &'a dyn ByteSource,
    /// What has been read, from the source's first byte.
    bytes: Vec<u8>,
    /// Where parsing stands.
    position: usize,
}

impl<'a> Head<'a> {
    pub(super) fn new(source: &'a dyn ByteSource) -> Head<'a> {
        Head { source, bytes: Vec::new(), position: 0 }
    }

    pub(super) fn position(&self) -> usize {
        self.position
    }

    /// The first `len` bytes; they have been parsed.
    pub(super) fn into_bytes(mut self, len: usize) -> Vec<u8> {
        self.bytes.truncate(len);
        self.bytes.shrink_to_fit();
        self.bytes
    }

    /// What has been read from `start` up to the cursor.
    pub(super) fn since(&self, start: usize) -> &[u8] {
        &self.bytes[start..self.position]
    }

    /// An error that says where in which file.
    pub(super) fn malformed(&self, message: impl std::fmt::Display) -> Error {
        Error::malformed(format!("{}: {message}", self.source.name()))
    }

    /// Takes the next `count` bytes. `what` is what they hold, for messages.
    pub(super) async fn take(&mut self, count: u64, what: &str) -> Result<&[u8]> {
        let start = self.position;
        let end = (start as u64).saturating_add(count);
        if end > self.source.len() {
            return Err(self.malformed(format_args!(
                "{what} at byte {start} needs {count} bytes, but the file ends at {}; it is cut short or its header is wrong",
                self.source.len()
            )));
        }
        if end > LONGEST {
            return Err(self.malformed(format_args!("the header is longer than {} MiB ({what} at byte {start})", LONGEST >> 20)));
        }
        // Below LONGEST, which fits a usize everywhere.
        let end = end as usize;
        if end > self.bytes.len() {
            self.read_to(end).await?;
        }
        self.position = end;
        Ok(&self.bytes[start..end])
    }

    async fn read_to(&mut self, end: usize) -> Result<()> {
        let have = self.bytes.len();
        let ahead = have + have.clamp(FIRST_WINDOW, LAST_WINDOW);
        let wanted = (ahead.max(end) as u64).min(self.source.len()).min(LONGEST) as usize;
        self.bytes.reserve_exact(wanted - have);
        self.bytes.resize(wanted, 0);
        self.source.read(have as u64, &mut self.bytes[have..]).await?;
        Ok(())
    }

    pub(super) async fn u32(&mut self, what: &str) -> Result<u32> {
        let b = self.take(4, what).await?;
        Ok(u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
    }

    pub(super) async fn u64(&mut self, what: &str) -> Result<u64> {
        let b = self.take(8, what).await?;
        Ok(u64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]))
    }

    /// A UTF-8 string behind its 64-bit length, of at most `limit` bytes.
    pub(super) async fn name(&mut self, limit: u64, what: &str) -> Result<&str> {
        let len = self.u64(what).await?;
        let start = self.position;
        if len > limit {
            return Err(self.malformed(format_args!("{what} before byte {start} claims {len} bytes; at most {limit} are allowed")));
        }
        self.take(len, what).await?;
        std::str::from_utf8(&self.bytes[start..start + len as usize])
            .map_err(|_| self.malformed(format_args!("{what} at byte {start} is not UTF-8")))
    }
}

/// A name out of a file, fit for a message: quoted, escaped, and cut where it is long.
pub(crate) fn quoted(name: &str) -> String {
    const SHOWN: usize = 96;
    let mut text: String = name.chars().take(SHOWN).flat_map(char::escape_debug).collect();
    if name.chars().nth(SHOWN).is_some() {
        text.push('…');
    }
    format!("`{text}`")
}
