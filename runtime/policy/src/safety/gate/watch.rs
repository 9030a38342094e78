//! One stream of an answer's text past the rules.

use crate::safety::json::{Piece, Strings};
use crate::safety::rules::{Hit, Matcher, Scan};

/// Blocks that one match may lie in, at most. A backend that makes more of them, each within a match that goes on, is broken.
const BLOCKS: usize = 32;

/// Searches text that comes in blocks. A caller may be shown the blocks side by side or one by one, so both are searched: a block's text as one that
/// begins and ends there, and all text as one.
#[derive(Clone, Debug)]
pub(super) struct Watch {
    /// Searches that began with a block and where; older ones only while a match may come that began before the next one.
    scans: Vec<(u64, Scan)>,
    /// Where the text is JSON: its strings, decoded.
    strings: Option<InStrings>,
    /// Bytes that the caller wrote itself: a match in them alone is none of the answer's.
    begun: u64,
    /// Bytes so far.
    length: u64,
}

/// The strings of a JSON text.
#[derive(Clone, Debug, Default)]
struct InStrings {
    strings: Strings,
    /// Of the open one.
    scan: Option<Scan>,
    /// What the last character brought: nothing yet, the end of a string or its beginning, or a character.
    decoded: Option<char>,
    inside: bool,
}

impl Watch {
    /// `json`: the text is JSON, and its strings are judged decoded too.
    pub(super) fn new(json: bool) -> Watch {
        Watch { scans: Vec::new(), strings: json.then(Default::default), begun: 0, length: 0 }
    }

    /// Text that goes on from what a caller began.
    pub(super) fn behind(matcher: &Matcher, begun: &str, json: bool) -> Watch {
        let mut watch = Watch::new(json);
        let (mut scan, mut hits) = (Scan::new(matcher), Vec::new());
        for c in begun.chars() {
            let end = watch.length + c.len_utf8() as u64;
            scan.push(matcher, c, watch.length, end, &mut hits);
            hits.clear();
            watch.length = end;
        }
        watch.begun = watch.length;
        watch.scans.push((0, scan));
        watch
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
    #[inline]
    pub(super) fn push(&mut self, matcher: &Matcher, c: char, hits: &mut Vec<Hit>) {
        let (start, end) = (self.length, self.length + c.len_utf8() as u64);
        for (_, scan) in &mut self.scans {
            scan.push(matcher, c, start, end, hits);
        }
        if let Some(InStrings { strings, scan, decoded, inside }) = &mut self.strings {
            *decoded = None;
            strings.push(c, start, |piece| match piece {
                Piece::Begin => (*scan, *inside) = (Some(Scan::new(matcher)), true),
                Piece::Char(c, from) => {
                    *decoded = Some(c);
                    scan.iter_mut().for_each(|scan| scan.push(matcher, c, from, end, hits));
                }
                Piece::End => {
                    *inside = false;
                    if let Some(mut scan) = scan.take() {
                        scan.finish(matcher, hits);
                    }
                }
            });
        }
        self.length = end;
        if !hits.is_empty() {
            self.own(hits);
        }
    }

    /// Leaves out what lies in the caller's own text.
    fn own(&self, hits: &mut Vec<Hit>) {
        if self.begun > 0 && !hits.is_empty() {
            hits.retain(|hit| hit.end > self.begun);
        }
    }

    /// What the last character said in a string of JSON: outside of one `None`, and inside `Some(None)` where it is a part of what says something.
    pub(super) fn decoded(&self) -> Option<Option<char>> {
        let strings = self.strings.as_ref()?;
        strings.inside.then_some(strings.decoded)
    }

    /// Lets go of searches that find nothing which the next one does not. To be called now and then: it changes no verdict.
    pub(super) fn settle(&mut self, matcher: &Matcher) {
        if self.scans.len() < 2 {
            return;
        }
        let next: Vec<u64> = self.scans.iter().skip(1).map(|(from, _)| *from).collect();
        let mut next = next.into_iter();
        self.scans.retain(|(_, scan)| next.next().is_none_or(|next| scan.pending(matcher).is_some_and(|pending| pending < next)));
    }

    /// A block ends: what matches if nothing comes behind it.
    pub(super) fn close(&mut self, matcher: &Matcher, hits: &mut Vec<Hit>) {
        for (_, scan) in &self.scans {
            scan.would_end(matcher, hits);
        }
        if let Some(scan) = self.strings.as_ref().and_then(|strings| strings.scan.as_ref()) {
            scan.would_end(matcher, hits);
        }
        self.own(hits);
    }

    /// The text is over, and what comes next is another, though it is counted on. What matches was said when the last block closed.
    pub(super) fn finish(&mut self) {
        self.scans.clear();
        if let Some(strings) = &mut self.strings {
            *strings = Default::default();
        }
    }

    fn searches(&self) -> impl Iterator<Item = &Scan> {
        self.scans.iter().map(|(_, scan)| scan).chain(self.strings.iter().flat_map(|strings| &strings.scan))
    }

    /// The first byte that may belong to a match of a rule that blocks, or the text's length.
    pub(super) fn held(&self, matcher: &Matcher) -> u64 {
        let mut first = self.length;
        for (_, scan) in &self.scans {
            first = scan.held(matcher).map_or(first, |held| held.min(first));
        }
        let Some(scan) = self.strings.as_ref().and_then(|strings| strings.scan.as_ref()) else { return first };
        scan.held(matcher).map_or(first, |held| held.min(first)).min(self.complete())
    }

    /// Up to where every character is known: an escape that is open may become any.
    pub(super) fn complete(&self) -> u64 {
        let open = self.strings.as_ref().filter(|strings| strings.scan.is_some()).and_then(|strings| strings.strings.pending());
        open.unwrap_or(self.length)
    }

    /// The first byte that must not leave if the text ends here, though no match is complete.
    pub(super) fn revealing(&self, matcher: &Matcher) -> Option<u64> {
        self.searches().filter_map(|scan| scan.revealing(matcher)).min()
    }

    /// Whether a text that goes on with this says what must not be said.
    pub(super) fn would_reveal(&self, matcher: &Matcher, piece: &str) -> bool {
        if self.scans.iter().any(|(_, scan)| scan.would_reveal(matcher, piece, self.length)) {
            return true;
        }
        let Some(InStrings { strings, scan, .. }) = &self.strings else { return false };
        // What a string says is judged as one piece: where it goes on from the open one behind that.
        let (mut strings, mut said, mut texts) = (*strings, String::new(), Vec::new());
        let mut open = scan.as_ref();
        for c in piece.chars() {
            strings.push(c, self.length, |piece| match piece {
                Piece::Begin => {}
                Piece::Char(c, _) => said.push(c),
                Piece::End => texts.push((open.take(), std::mem::take(&mut said))),
            });
        }
        texts.push((open.take(), said));
        let fresh = Scan::new(matcher);
        texts.iter().any(|(scan, said)| !said.is_empty() && scan.unwrap_or(&fresh).would_reveal(matcher, said, self.length))
    }
}
