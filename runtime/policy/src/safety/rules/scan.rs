//! A text on its way past the rules.

use aho_corasick::automaton::StateID as LiteralState;
use regex_automata::util::primitives::StateID;

use super::context::{AFTER, BEFORE, Beside, NEAR};
use super::literals::{BORDER, Literals, in_word};
use super::validator::Stands;
use super::{Entry, Form, Matcher};
use crate::safety::normalise::{Blanks, HIDDEN, Normaliser, Spot};

mod ahead;

/// A match. All there are come, also those that lie in or overlap others, each when it is certain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Hit {
    /// Index of the rule.
    pub(crate) rule: usize,
    /// First byte of the raw text.
    pub(crate) start: u64,
    /// The byte behind its last.
    pub(crate) end: u64,
}

/// Bytes in a row that may stand between two characters of a match whose form is spaced: ` > `, `" + "`, but not ` ----- `.
const GAP: u8 = 5;

/// Such bytes in one match at most.
pub(super) const SKIPPED: u8 = 128;

/// How far a pattern is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Walk {
    state: StateID,
    /// Bytes left out since the last that was taken, and in all.
    gap: u8,
    skipped: u8,
}

impl Walk {
    pub(super) fn at(state: StateID) -> Walk {
        Walk { state, gap: 0, skipped: 0 }
    }

    /// Bytes left out since the last that was taken.
    pub(super) fn gap(&self) -> u8 {
        self.gap
    }

    /// Takes a byte: whether a match ended before it, and whether one may still come.
    #[inline]
    pub(super) fn step(&mut self, form: &Form, byte: u8, capital: bool) -> (bool, bool) {
        let next = form.pattern.step(self.state, byte);
        if form.capitals && !capital && byte.is_ascii_alphabetic() {
            return (form.pattern.ended(next), false);
        }
        if !form.pattern.special(next) {
            (self.state, self.gap) = (next, 0);
            return (false, true);
        }
        let ended = form.pattern.ended(next);
        if !form.pattern.dead(next) {
            (self.state, self.gap) = (next, 0);
            return (ended, true);
        }
        if ended || !form.spaced || byte.is_ascii_alphanumeric() || self.gap == GAP || self.skipped == SKIPPED {
            return (ended, false);
        }
        (self.gap, self.skipped) = (self.gap + 1, self.skipped + 1);
        (false, true)
    }
}

/// A match of a pattern that may come.
#[derive(Clone, Copy, Debug)]
struct Live {
    entry: u16,
    walk: Walk,
    /// Where it began, in normalised bytes.
    start: u64,
}

/// A match that is none if something stands beside it, or nothing does, that has not come yet.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    entry: u16,
    /// It is one only near certain words.
    near: bool,
    /// Its normalised bytes.
    start: u64,
    end: u64,
}

/// A normalised byte.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    byte: u8,
    /// Whether it was a capital.
    capital: bool,
    /// Of the raw text, what it stands for.
    start: u64,
    end: u64,
}

impl Seen {
    /// As it was written.
    fn written(&self) -> u8 {
        if self.capital { self.byte.to_ascii_uppercase() } else { self.byte }
    }
}

/// How far a search of one text is. It holds at most the longest match's length of it.
#[derive(Clone, Debug)]
pub(crate) struct Scan {
    normaliser: Normaliser,
    spots: Vec<Spot>,
    live: Vec<Live>,
    waiting: Vec<Waiting>,
    blocked: LiteralState,
    flagged: LiteralState,
    /// Whether the last byte is a word's, and the one before it.
    word: bool,
    before: bool,
    /// Normalised bytes so far.
    length: u64,
    /// The last of them.
    recent: Vec<Seen>,
    /// Where texts of others begin, in raw bytes, in order: what stands beside a match ends there.
    edges: Vec<u64>,
}

impl Scan {
    pub(crate) fn new(matcher: &Matcher) -> Scan {
        Scan::reading(matcher, Blanks::default())
    }

    /// One that reads blanks so.
    pub(crate) fn reading(matcher: &Matcher, blanks: Blanks) -> Scan {
        let start = |literals: &Option<Literals>| literals.as_ref().map_or_else(LiteralState::default, Literals::start);
        Scan {
            normaliser: Normaliser::reading(blanks),
            spots: Vec::new(),
            live: Vec::new(),
            waiting: Vec::new(),
            blocked: start(&matcher.blocked),
            flagged: start(&matcher.flagged),
            word: false,
            before: false,
            length: 0,
            recent: Vec::new(),
            edges: Vec::new(),
        }
    }

    /// The first match of each rule in a text.
    pub(crate) fn whole(matcher: &Matcher, text: &str) -> Vec<Hit> {
        Scan::whole_as(matcher, text, Blanks::default())
    }

    /// The same, with blanks read so.
    pub(crate) fn whole_as(matcher: &Matcher, text: &str, blanks: Blanks) -> Vec<Hit> {
        let mut scan = Scan::reading(matcher, blanks);
        let mut found = Found::default();
        let mut hits = Vec::new();
        for (at, c) in text.char_indices() {
            scan.push(matcher, c, at as u64, (at + c.len_utf8()) as u64, &mut hits);
            found.take(&mut hits);
        }
        scan.finish(matcher, &mut hits);
        found.take(&mut hits);
        found.hits
    }

    /// Says that another text begins with the raw byte `at`. A match may reach over it, but no context does: what one text says before or after a
    /// match in another undoes nothing.
    pub(crate) fn edge(&mut self, at: u64) {
        self.edges.push(at);
    }

    /// Takes the raw text's next character, its bytes `start..end`.
    pub(crate) fn push(&mut self, matcher: &Matcher, c: char, start: u64, end: u64, hits: &mut Vec<Hit>) {
        let mut spots = std::mem::take(&mut self.spots);
        self.normaliser.push(c, start, end, &mut spots);
        let capital = c.is_ascii_uppercase() || (!c.is_ascii() && c.is_uppercase());
        self.walk(matcher, &spots, capital, hits);
        spots.clear();
        self.spots = spots;
    }

    fn walk(&mut self, matcher: &Matcher, spots: &[Spot], capital: bool, hits: &mut Vec<Hit>) {
        for spot in spots {
            let mut bytes = [0; 4];
            if spot.char == HIDDEN {
                self.hidden(matcher, spot, hits);
                continue;
            }
            for byte in spot.char.encode_utf8(&mut bytes).bytes() {
                self.step(matcher, Seen { byte, capital, start: spot.start, end: spot.end }, hits);
            }
        }
        if self.recent.len() > 2 * matcher.longest + 64 {
            self.recent.drain(..self.recent.len() - matcher.longest);
        }
    }

    /// Searches for what may be asked of too many invisible characters. They are a text of their own: what stands around them stands side by side.
    fn hidden(&self, matcher: &Matcher, spot: &Spot, hits: &mut Vec<Hit>) {
        let mut bytes = [0; 4];
        let bytes = HIDDEN.encode_utf8(&mut bytes).as_bytes();
        for entry in &matcher.patterns {
            let pattern = &entry.form.pattern;
            let state = bytes.iter().fold(pattern.start(false), |state, byte| pattern.step(state, *byte));
            if pattern.ended(pattern.stop(state)) {
                hits.push(Hit { rule: entry.rule.into(), start: spot.start, end: spot.end });
            }
        }
    }

    fn step(&mut self, matcher: &Matcher, seen: Seen, hits: &mut Vec<Hit>) {
        let byte = seen.byte;
        let word = in_word(byte);
        if word != self.word {
            self.literals(matcher, BORDER, hits);
        }
        let mut live = std::mem::take(&mut self.live);
        if let Some(last) = self.recent.last() {
            let begun = matcher.begin.second(self.before, last.byte, byte);
            live.extend(self.begun(matcher, begun, last.capital));
        }
        self.live = self.patterns(matcher, live, |form, walk| walk.step(form, byte, seen.capital), hits);
        if !self.waiting.is_empty() {
            self.decide(matcher, AFTER as u64, hits);
        }
        self.before = std::mem::replace(&mut self.word, word);
        self.length += 1;
        self.recent.push(seen);
        self.literals(matcher, byte, hits);
    }

    /// What begins with the last byte.
    fn begun<'a>(&self, matcher: &'a Matcher, begun: &'a [(u16, StateID)], capital: bool) -> impl Iterator<Item = Live> + use<'a> {
        let start = self.length.saturating_sub(1);
        let begun = begun
            .iter()
            .filter(move |(entry, _)| capital || matcher.patterns.get(usize::from(*entry)).is_some_and(|entry| !entry.form.capitals));
        begun.map(move |(entry, state)| Live { entry: *entry, walk: Walk::at(*state), start })
    }

    /// What may begin with the last byte, as far as it is known.
    fn fresh<'a>(&self, matcher: &'a Matcher) -> impl Iterator<Item = Live> + use<'a> {
        let last = self.recent.last().copied();
        let begun = last.map_or(&[][..], |last| matcher.begin.first(self.before, last.byte));
        self.begun(matcher, begun, last.is_some_and(|last| last.capital))
    }

    fn literals(&mut self, matcher: &Matcher, byte: u8, hits: &mut Vec<Hit>) {
        if let Some(literals) = &matcher.blocked {
            self.blocked = literals.step(self.blocked, byte);
            hits.extend(literals.ended(self.blocked).map(|(rule, length)| self.hit(rule, self.length.saturating_sub(length), self.length)));
        }
        if let Some(literals) = &matcher.flagged {
            self.flagged = literals.step(self.flagged, byte);
            hits.extend(literals.ended(self.flagged).map(|(rule, length)| self.hit(rule, self.length.saturating_sub(length), self.length)));
        }
    }

    /// Moves what lives on by a step, which says whether a match ended before it and whether one may still come.
    #[inline]
    fn patterns(
        &mut self,
        matcher: &Matcher,
        mut live: Vec<Live>,
        step: impl Fn(&Form, &mut Walk) -> (bool, bool),
        hits: &mut Vec<Hit>,
    ) -> Vec<Live> {
        live.retain_mut(|one| {
            let Some(entry) = matcher.patterns.get(usize::from(one.entry)) else { return false };
            let (ended, alive) = step(&entry.form, &mut one.walk);
            if ended {
                self.ended(matcher, entry, one, hits);
            }
            // Blanks within what is only looked for would make every letter live on.
            alive && (one.walk.gap == 0 || self.length - one.start >= entry.form.public.into())
        });
        live
    }

    /// A match ended with the bytes so far.
    fn ended(&mut self, matcher: &Matcher, entry: &Entry, one: &Live, hits: &mut Vec<Hit>) {
        let text = || self.since(one.start).iter().map(Seen::written).collect();
        let near = match entry.form.check.judge(text) {
            Stands::No => return,
            Stands::Near => true,
            Stands::Yes => false,
        };
        let start = one.start + u64::from(entry.form.public);
        let found = Waiting { entry: one.entry, near, start, end: self.length };
        if entry.form.context.waits() {
            self.waiting.push(found);
        } else if self.stands(matcher, found) {
            hits.push(self.hit(entry.rule, found.start, found.end));
        }
    }

    /// Decides on matches that waited until so much came after them.
    fn decide(&mut self, matcher: &Matcher, after: u64, hits: &mut Vec<Hit>) {
        let mut waiting = std::mem::take(&mut self.waiting);
        waiting.retain(|one| {
            if self.length < one.end.saturating_add(after) {
                return true;
            }
            if self.stands(matcher, *one)
                && let Some(entry) = matcher.patterns.get(usize::from(one.entry))
            {
                hits.push(self.hit(entry.rule, one.start, one.end));
            }
            false
        });
        self.waiting = waiting;
    }

    /// Whether what stands beside a match leaves it one.
    fn stands(&self, matcher: &Matcher, one: Waiting) -> bool {
        let Some(entry) = matcher.patterns.get(usize::from(one.entry)) else { return false };
        if entry.form.context.width() == 0 {
            return true;
        }
        let bytes = |seen: &[Seen]| -> Vec<u8> { seen.iter().map(|seen| seen.byte).collect() };
        let (from, after) = (self.since(one.start.saturating_sub(BEFORE as u64)), self.since(one.end));
        let near = |before: &[Seen]| {
            let before = before.get(before.len().saturating_sub(NEAR.0)..).unwrap_or_default();
            entry.form.context.is_near(&bytes(before), &bytes(after.get(..NEAR.1).unwrap_or(after)))
        };
        let (before, found) = from.split_at(from.len().saturating_sub(self.since(one.start).len()));
        if one.near && !near(before) {
            return false;
        }
        let found = found.get(..found.len().saturating_sub(after.len())).unwrap_or_default();
        let (first, last) = (found.first().map_or(0, |seen| seen.start), found.last().map_or(0, |seen| seen.end));
        let edge = self.edges.partition_point(|edge| *edge <= first).checked_sub(1).and_then(|at| self.edges.get(at)).copied();
        let next = self.edges.get(self.edges.partition_point(|edge| *edge < last)).copied().unwrap_or(u64::MAX);
        let before = before.get(before.partition_point(|seen| seen.start < edge.unwrap_or(0))..).unwrap_or_default();
        let after = after.get(..after.partition_point(|seen| seen.start < next)).unwrap_or(after);
        let before = Beside { text: bytes(before), cut: before.len() == BEFORE };
        let after = Beside { text: bytes(after.get(..AFTER).unwrap_or(after)), cut: after.len() >= AFTER };
        entry.form.context.accepts(&before, &after)
    }

    /// The normalised bytes from a place on.
    fn since(&self, start: u64) -> &[Seen] {
        let count = usize::try_from(self.length.saturating_sub(start)).unwrap_or(usize::MAX);
        self.recent.get(self.recent.len().saturating_sub(count)..).unwrap_or_default()
    }

    /// A match of the normalised bytes `start..end`.
    fn hit(&self, rule: u16, start: u64, end: u64) -> Hit {
        let spots = self.since(start);
        let spots = spots.get(..usize::try_from(end.saturating_sub(start)).unwrap_or(usize::MAX)).unwrap_or(spots);
        let (first, last) = (spots.first().copied().unwrap_or_default(), spots.last().copied().unwrap_or_default());
        Hit { rule: rule.into(), start: first.start, end: last.end }
    }

    /// The text may be over: what would match if it is. The search itself can go on.
    pub(crate) fn would_end(&self, matcher: &Matcher, hits: &mut Vec<Hit>) {
        self.clone().finish(matcher, hits);
    }

    /// The text is over.
    pub(crate) fn finish(&mut self, matcher: &Matcher, hits: &mut Vec<Hit>) {
        let mut spots = std::mem::take(&mut self.spots);
        self.normaliser.finish(&mut spots);
        self.walk(matcher, &spots, false, hits);
        if self.word {
            self.literals(matcher, BORDER, hits);
        }
        let mut live = std::mem::take(&mut self.live);
        live.extend(self.fresh(matcher));
        self.patterns(matcher, live, |form, walk| (form.pattern.ended(form.pattern.stop(walk.state)), false), hits);
        self.decide(matcher, 0, hits);
    }

    /// The first raw byte that may belong to a match of a rule that blocks. `None`: all that came is clear.
    pub(crate) fn held(&self, matcher: &Matcher) -> Option<u64> {
        let entry = |at: u16| matcher.patterns.get(usize::from(at)).filter(|entry| entry.blocks);
        let begun = |one: Live| entry(one.entry).map(|entry| one.start + u64::from(entry.form.public)).filter(|start| *start < self.length);
        let waiting = self.waiting.iter().filter(|one| entry(one.entry).is_some()).map(|one| one.start);
        let live = self.live.iter().copied().filter_map(begun).chain(waiting).min();
        let live = live.or_else(|| self.fresh(matcher).find_map(begun));
        // Marks that are not in order yet matter where a match goes on with them, or, of a strange rule, begins.
        let marks = || self.normaliser.marks().find(|mark| matcher.may_begin(mark.char)).and(self.normaliser.pending());
        self.raw(live, self.blocked, &matcher.blocked).or_else(marks)
    }

    /// The first raw byte that may belong to any match that is not complete.
    pub(crate) fn pending(&self, matcher: &Matcher) -> Option<u64> {
        let live = self.live.iter().copied().chain(self.fresh(matcher)).map(|one| one.start);
        let live = live.chain(self.waiting.iter().map(|one| one.start)).min();
        let blocked = self.raw(live, self.blocked, &matcher.blocked);
        let flagged = self.raw(live, self.flagged, &matcher.flagged);
        blocked.into_iter().chain(flagged).chain(self.normaliser.pending()).min()
    }

    fn raw(&self, live: Option<u64>, state: LiteralState, literals: &Option<Literals>) -> Option<u64> {
        let alive = literals.as_ref().map_or(0, |literals| literals.alive(state));
        let literal = (alive > 0).then(|| self.length.saturating_sub(alive));
        let first = live.into_iter().chain(literal).min()?;
        self.since(first).first().map(|seen| seen.start)
    }
}

/// The first match of each rule.
#[derive(Clone, Debug, Default)]
pub(crate) struct Found {
    seen: Vec<bool>,
    pub(crate) hits: Vec<Hit>,
}

impl Found {
    pub(crate) fn take(&mut self, hits: &mut Vec<Hit>) {
        for hit in hits.drain(..) {
            if self.seen.len() <= hit.rule {
                self.seen.resize(hit.rule + 1, false);
            }
            if self.seen.get_mut(hit.rule).is_some_and(|seen| !std::mem::replace(seen, true)) {
                self.hits.push(hit);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::safety::rules::{Direction, Policy};

    /// Searches, each with a border before, what matches by the `regex` crate, and a border behind.
    const SEARCHES: [(&str, bool, &str, bool); 7] = [
        ("kind = 'regex'\nany = ['\\ba[b1]{1,2}\\b']", true, "a[b1]{1,2}", true),
        ("kind = 'regex'\nany = ['b-?1']", false, "b-?1", false),
        ("kind = 'regex'\nany = ['1-\\b', 'aaa']", false, "aaa", false),
        ("kind = 'literal'\nany = ['b', 'b-a']", true, "b|b-a", true),
        ("kind = 'literal'\nany = ['ab', 'b11']\nwords = false", false, "ab|b11", false),
        ("kind = 'literal'\nany = ['-b']", false, "-b", true),
        ("kind = 'regex'\nany = ['-{1,3}\\ba']", false, "-{1,3}a", false),
    ];

    fn policy() -> Policy {
        let mut text = "format = 1\nrevision = ''\n[[category]]\nid = 'c'\nabout = ''\n".to_owned();
        for (number, (search, ..)) in SEARCHES.iter().enumerate() {
            let example = ["ab", "b1", "aaa", "b", "ab", "-b", "-a"][number];
            text +=
                &format!("[[rule]]\nid = 'r{number}'\ncategory = 'c'\nabout = ''\noutput = 'block'\n{search}\nexamples = ['{example}']\n");
        }
        Policy::load([text.as_str()]).expect("rules")
    }

    fn word(text: &str, at: Option<usize>) -> bool {
        at.and_then(|at| text.as_bytes().get(at)).is_some_and(|b| in_word(*b))
    }

    fn border(text: &str, at: usize) -> bool {
        word(text, at.checked_sub(1)) != word(text, Some(at))
    }

    /// Every match, by trying every part of the text.
    fn expected(text: &str) -> BTreeSet<Hit> {
        let mut hits = BTreeSet::new();
        for (rule, (_, before, core, behind)) in SEARCHES.iter().enumerate() {
            let core = regex::Regex::new(&format!("^(?:{core})$")).expect("a pattern");
            for start in 0..text.len() {
                for end in start + 1..=text.len().min(start + 4) {
                    // A border is asked for only where a word's byte stands at the edge.
                    let free = |asked: bool, edge: usize, at: usize| !asked || !word(text, Some(edge)) || border(text, at);
                    if core.is_match(&text[start..end]) && free(*before, start, start) && free(*behind, end - 1, end) {
                        hits.insert(Hit { rule, start: start as u64, end: end as u64 });
                    }
                    if rule == 2 && &text[start..end] == "1-" && word(text, Some(end)) {
                        hits.insert(Hit { rule, start: start as u64, end: end as u64 });
                    }
                }
            }
        }
        hits
    }

    /// Every text of up to so many characters.
    fn endings(length: usize) -> Vec<String> {
        let mut all = vec![String::new()];
        let mut from = 0;
        for _ in 0..length {
            let until = all.len();
            for at in from..until {
                for c in "ab1-".chars() {
                    all.push(format!("{}{c}", all[at]));
                }
            }
            from = until;
        }
        all
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]
        /// All matches are found, and at each byte exactly so much is held as may still be one's.
        #[test]
        fn as_trying_everything(text in "[ab1-]{0,12}") {
            let policy = policy();
            let matcher = policy.matcher(Direction::Output);
            let endings = endings(4);
            let all = expected(&text);
            let (mut scan, mut hits) = (Scan::new(matcher), Vec::new());
            for (at, c) in text.char_indices() {
                let so_far = &text[..at];
                let held = scan.held(matcher).unwrap_or(at as u64);
                for hit in all.iter().filter(|hit| hit.end > at as u64) {
                    prop_assert!(held <= hit.start.min(at as u64), "`{}` is held from {} of {:?}", so_far, held, hit);
                }
                // Until the first match: what is held behind one is of no use.
                if hits.is_empty() && held < at as u64 {
                    let may = endings.iter().any(|ending| {
                        expected(&format!("{so_far}{ending}")).iter().any(|hit| hit.start == held && hit.end >= at as u64)
                    });
                    prop_assert!(may, "`{}` is held from {} for nothing", so_far, held);
                }
                scan.push(matcher, c, at as u64, at as u64 + 1, &mut hits);
            }
            let mut would = hits.clone();
            scan.would_end(matcher, &mut would);
            scan.finish(matcher, &mut hits);
            prop_assert_eq!(&would, &hits);
            prop_assert_eq!(hits.into_iter().collect::<BTreeSet<_>>(), all);
        }
    }
}
