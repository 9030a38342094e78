//! One stream of an answer's text past the rules.

use crate::safety::json::{Piece, Strings};
use crate::safety::rules::{Hit, Matcher, Scan};

/// Blocks that one match may lie in, at most. A backend that makes more of them, each within a match that goes on, is broken.
const BLOCKS: usize = 32;

/// Searches text that comes in blocks. A caller may be shown the blocks side by side or one by one, so both are searched: a block's text as one that
/// begins and ends there, and all text as one.
#[derive(Debug)]
pub(super) struct Watch {
    /// Searches that began with a block and where; older ones only while a match may come that began before the next one.
    scans: Vec<(u64, Scan)>,
    /// Where the text is JSON: its strings, decoded.
    strings: Option<(Strings, Option<Scan>)>,
    /// Bytes so far.
    length: u64,
}

impl Watch {
    /// `json`: the text is JSON, and its strings are judged decoded too.
    pub(super) fn new(json: bool) -> Watch {
        Watch { scans: Vec::new(), strings: json.then(Default::default), length: 0 }
    }

    /// Bytes so far.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// A block begins. False: text would have to be held over too many blocks.
    pub(super) fn open(&mut self, matcher: &Matcher) -> bool {
        // A block without text ends nothing and begins nothing.
        self.scans.retain(|(from, _)| *from < self.length);
        self.scans.push((self.length, Scan::new(matcher)));
        self.settle(matcher);
        self.scans.len() <= BLOCKS
    }

    /// Takes a character.
    pub(super) fn push(&mut self, matcher: &Matcher, c: char, hits: &mut Vec<Hit>) {
        let (start, end) = (self.length, self.length + c.len_utf8() as u64);
        for (_, scan) in &mut self.scans {
            scan.push(matcher, c, start, end, hits);
        }
        if let Some((strings, open)) = &mut self.strings {
            strings.push(c, start, |piece| match piece {
                Piece::Begin => *open = Some(Scan::new(matcher)),
                Piece::Char(c, from) => open.iter_mut().for_each(|scan| scan.push(matcher, c, from, end, hits)),
                Piece::End => {
                    if let Some(mut scan) = open.take() {
                        scan.finish(matcher, hits);
                    }
                }
            });
        }
        self.length = end;
    }

    /// Lets go of searches that find nothing which the next one does not. To be called now and then: it changes no verdict.
    pub(super) fn settle(&mut self, matcher: &Matcher) {
        let next: Vec<u64> = self.scans.iter().skip(1).map(|(from, _)| *from).collect();
        let mut next = next.into_iter();
        self.scans.retain(|(_, scan)| next.next().is_none_or(|next| scan.pending(matcher).is_some_and(|pending| pending < next)));
    }

    /// A block ends: what matches if nothing comes behind it.
    pub(super) fn close(&mut self, matcher: &Matcher, hits: &mut Vec<Hit>) {
        for (_, scan) in &self.scans {
            scan.would_end(matcher, hits);
        }
        if let Some((_, Some(scan))) = &self.strings {
            scan.would_end(matcher, hits);
        }
    }

    /// The text is over, and what comes next is another, though it is counted on. What matches was said when the last block closed.
    pub(super) fn finish(&mut self) {
        self.scans.clear();
        if let Some(strings) = &mut self.strings {
            *strings = Default::default();
        }
    }

    /// The first byte that may belong to a match of a rule that blocks, or the text's length.
    pub(super) fn held(&self, matcher: &Matcher) -> u64 {
        let scans = self.scans.iter().filter_map(|(_, scan)| scan.held(matcher));
        let strings = self.strings.iter().flat_map(|(strings, open)| {
            // Only in a string there is anything to hold.
            open.as_ref().map(|scan| [scan.held(matcher), strings.pending()]).into_iter().flatten().flatten()
        });
        scans.chain(strings).min().unwrap_or(self.length)
    }
}
