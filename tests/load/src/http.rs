//! As much of HTTP/1.1 as a caller needs, without IO: requests as bytes, and answers read from whatever pieces come.
//!
//! Written out here, so that a caller can stop at any byte, and so that it costs the same, and little, whoever is called.

/// A POST's bytes.
pub(crate) fn post(host: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Vec<u8> {
    let mut request =
        format!("POST {path} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n", body.len());
    for (name, value) in headers {
        request.push_str(name);
        request.push_str(": ");
        request.push_str(value);
        request.push_str("\r\n");
    }
    request.push_str("\r\n");
    request.push_str(body);
    request.into_bytes()
}

/// A GET's bytes.
pub(crate) fn get(host: &str, path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n").into_bytes()
}

/// Longest head of an answer, and longest line between chunks.
const HEAD: usize = 64 << 10;

/// An answer that is being read.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    state: State,
    line: Vec<u8>,
    pub(crate) status: u16,
    pub(crate) head: String,
    /// The body, if it is kept.
    pub(crate) body: Vec<u8>,
    /// Where each chunk of it ends.
    pub(crate) chunks: Vec<usize>,
    discards: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Head,
    /// Bytes of a body that are to come.
    Length(usize),
    ChunkSize,
    Chunk(usize),
    ChunkEnd,
    Trailer,
    Over,
}

impl Answer {
    /// Does not keep its body.
    pub(crate) fn discarding() -> Answer {
        Answer { discards: true, ..Answer::default() }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.state == State::Over
    }

    /// Takes bytes.
    ///
    /// # Errors
    /// What is no HTTP, or more than one answer.
    pub(crate) fn push(&mut self, mut bytes: &[u8]) -> Result<(), String> {
        while !bytes.is_empty() {
            match self.state {
                State::Head => {
                    let (taken, whole) = until(&mut self.line, bytes, b"\r\n\r\n")?;
                    bytes = &bytes[taken..];
                    if whole {
                        self.take_head()?;
                    }
                }
                State::Length(left) => {
                    let taken = left.min(bytes.len());
                    self.keep(&bytes[..taken]);
                    bytes = &bytes[taken..];
                    self.state = if taken == left { State::Over } else { State::Length(left - taken) };
                }
                State::ChunkSize => {
                    let (taken, whole) = until(&mut self.line, bytes, b"\r\n")?;
                    bytes = &bytes[taken..];
                    if whole {
                        let line = String::from_utf8_lossy(&self.line).into_owned();
                        let size = line.split(';').next().unwrap_or_default().trim();
                        let size = usize::from_str_radix(size, 16).map_err(|_| format!("`{}` is no chunk's size", line.escape_debug()))?;
                        self.line.clear();
                        self.state = if size == 0 { State::Trailer } else { State::Chunk(size) };
                    }
                }
                State::Chunk(left) => {
                    let taken = left.min(bytes.len());
                    self.keep(&bytes[..taken]);
                    bytes = &bytes[taken..];
                    self.state = if taken == left { State::ChunkEnd } else { State::Chunk(left - taken) };
                    if taken == left && !self.discards {
                        self.chunks.push(self.body.len());
                    }
                }
                State::ChunkEnd | State::Trailer => {
                    let (taken, whole) = until(&mut self.line, bytes, b"\r\n")?;
                    bytes = &bytes[taken..];
                    if whole {
                        let empty = self.line == b"\r\n";
                        self.line.clear();
                        self.state = match self.state {
                            State::ChunkEnd if empty => State::ChunkSize,
                            State::ChunkEnd => return Err("a chunk is longer than it said".to_owned()),
                            _ if empty => State::Over,
                            _ => State::Trailer,
                        };
                    }
                }
                State::Over => return Err("more came than one answer".to_owned()),
            }
        }
        Ok(())
    }

    fn keep(&mut self, bytes: &[u8]) {
        if !self.discards {
            self.body.extend_from_slice(bytes);
        }
    }

    fn take_head(&mut self) -> Result<(), String> {
        self.head = String::from_utf8_lossy(&std::mem::take(&mut self.line)).into_owned();
        let status = self.head.split(' ').nth(1).and_then(|status| status.parse().ok());
        self.status = status.ok_or_else(|| format!("no HTTP: {:.80}", self.head.escape_debug()))?;
        self.state = match (self.header("content-length"), self.header("transfer-encoding")) {
            (Some(length), _) => match length.parse().map_err(|_| format!("content-length is `{length}`"))? {
                0 => State::Over,
                length => State::Length(length),
            },
            (None, Some(_)) => State::ChunkSize,
            (None, None) => return Err("an answer without a length".to_owned()),
        };
        Ok(())
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        lines.into_iter().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Collects a line until its end: how many bytes were taken, and whether that is all of it.
fn until(line: &mut Vec<u8>, bytes: &[u8], end: &[u8]) -> Result<(usize, bool), String> {
    for (at, byte) in bytes.iter().enumerate() {
        line.push(*byte);
        if line.ends_with(end) {
            return Ok((at + 1, true));
        }
    }
    if line.len() > HEAD {
        return Err(format!("a line of more than {HEAD} bytes"));
    }
    Ok((bytes.len(), false))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_the_same_however_they_are_cut() {
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n3;x=y\r\n yo\r\n0\r\n\r\n";
        let whole = "HTTP/1.1 429 Too Many Requests\r\ncontent-length: 3\r\n\r\nno!";
        for (text, status, body, chunks) in [(chunked, 200, "hello yo", vec![5, 8]), (whole, 429, "no!", vec![])] {
            for size in 1..text.len() {
                let mut answer = Answer::default();
                for (at, piece) in text.as_bytes().chunks(size).enumerate() {
                    assert!(!answer.is_over(), "{size} {at}");
                    answer.push(piece).unwrap_or_else(|e| panic!("{e}"));
                }
                assert!(answer.is_over());
                assert_eq!((answer.status, answer.text().as_str(), &answer.chunks), (status, body, &chunks));
                assert!(answer.push(b"x").is_err());
            }
        }
    }

    #[test]
    fn what_is_no_http_is_said() {
        for text in ["what\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n"] {
            assert!(Answer::default().push(text.as_bytes()).is_err(), "{text}");
        }
    }
}
