//! What a text says by its end already, and what it would say if it went on in some way.

use super::{Live, Scan, Seen, Stands, Walk};
use crate::safety::rules::{Entry, Hit, Matcher, Severity};

/// Free choices that a match has to make before it says something that its beginning does not: so many characters of a key.
const CHOSEN: usize = 6;

/// A byte was chosen freely where at least so many letters and digits could have stood.
const FREE: usize = 10;

/// So many bytes in a row that could be no others are a heading: what was chosen before them says nothing of what follows.
const HEADING: usize = 4;

/// Of a literal, fewer bytes are no sign of it.
const SHORTEST: u64 = 6;

impl Scan {
    /// The first raw byte of a match of a rule that blocks which is not complete, but says so much already that it must not leave where the text ends
    /// here: characters of a key, or most of a phrase.
    pub(crate) fn revealing(&self, matcher: &Matcher) -> Option<u64> {
        let entry = |one: &Live| matcher.patterns.get(usize::from(one.entry)).filter(|entry| entry.blocks);
        let begun = |one: &Live| entry(one).filter(|entry| self.reveals(entry, one)).map(|entry| one.start + u64::from(entry.form.public));
        let first = self.live.iter().filter_map(begun).min();
        let literal = matcher.blocked.as_ref().and_then(|literals| {
            let (alive, whole) = (literals.alive(self.blocked), literals.nearest(self.blocked));
            (alive >= SHORTEST && alive * 4 >= whole * 3).then(|| self.length.saturating_sub(alive))
        });
        let first = first.into_iter().chain(literal).min()?;
        self.since(first).first().map(|seen| seen.start)
    }

    /// Whether enough of a match was chosen freely, by walking it again.
    fn reveals(&self, entry: &Entry, live: &Live) -> bool {
        let pattern = &entry.form.pattern;
        let chosen = |word: bool| {
            let mut walk = Walk::at(pattern.start(word));
            let (mut chosen, mut fixed) = (0, 0);
            for seen in self.since(live.start) {
                let state = walk.state;
                let goes_on = |byte: &u8| !pattern.dead(pattern.step(state, *byte));
                let free = seen.byte.is_ascii_alphanumeric() && (b'a'..=b'z').chain(b'0'..=b'9').filter(goes_on).count() >= FREE;
                if !walk.step(&entry.form, seen.byte, seen.capital).1 {
                    return 0;
                }
                if walk.gap > 0 {
                    continue;
                }
                (chosen, fixed) = if free { (chosen + 1, 0) } else { (chosen, fixed + 1) };
                if fixed >= HEADING {
                    chosen = 0;
                }
            }
            if walk.state == live.walk.state { chosen } else { 0 }
        };
        // Words after a key's prefix are no characters of a key.
        let is_key = || {
            let text = || self.since(live.start).iter().map(Seen::written).collect();
            live.walk.skipped == 0 || entry.form.check.judge(text) == Stands::Yes
        };
        [false, true].into_iter().map(chosen).max().unwrap_or(0) >= CHOSEN && is_key()
    }

    /// Whether a text that goes on with this says, from the raw byte `from` on, what a rule that blocks is about: it completes a match, or brings one
    /// as far as [`Scan::revealing`] means. The search itself stays where it is. Costs what the piece and the matches under way are long.
    pub(crate) fn would_reveal(&self, matcher: &Matcher, piece: &str, from: u64) -> bool {
        let mut ahead = self.fork(matcher);
        let mut hits = Vec::new();
        let mut at = from;
        for c in piece.chars() {
            let end = at + c.len_utf8() as u64;
            ahead.push(matcher, c, at, end, &mut hits);
            at = end;
        }
        if ahead.revealing(matcher).is_some() {
            return true;
        }
        ahead.finish(matcher, &mut hits);
        hits.iter().any(|hit: &Hit| hit.end > from && matcher.severity(hit.rule) == Severity::Block)
    }

    /// A copy that goes on from here, without the bytes that no match under way has.
    fn fork(&self, matcher: &Matcher) -> Scan {
        let alive = |literals: &Option<_>, state| literals.as_ref().map_or(0, |literals: &super::Literals| literals.alive(state));
        let literal = alive(&matcher.blocked, self.blocked).max(alive(&matcher.flagged, self.flagged));
        // What stands before a match may decide on it; with the last byte one may begin.
        let starts = self.live.iter().map(|one| one.start).chain(self.waiting.iter().map(|one| one.start));
        let first = starts.min().unwrap_or(self.length).min(self.length.saturating_sub(literal)).saturating_sub(super::BEFORE as u64);
        Scan {
            normaliser: self.normaliser.clone(),
            spots: Vec::new(),
            live: self.live.clone(),
            waiting: self.waiting.clone(),
            blocked: self.blocked,
            flagged: self.flagged,
            word: self.word,
            before: self.before,
            length: self.length,
            recent: self.since(first).to_vec(),
            edges: self.edges.clone(),
        }
    }
}
