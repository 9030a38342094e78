//! How many places of a model's queue each key holds, and which keys asked for some lately: what its share of the queue goes by.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

/// A key that asked for a place so long ago wants one no longer, if it holds none.
const LATELY: Duration = Duration::from_secs(60);

/// Places by model and key. Clones share them.
#[derive(Clone, Default)]
pub(crate) struct Turns(Rc<RefCell<HashMap<String, Keys>>>);

/// Those who hold places of a model's queue, or asked for some lately.
#[derive(Default)]
struct Keys {
    of: HashMap<Rc<str>, Own>,
    /// When there are as many, those that want nothing are left out.
    most: usize,
}

#[derive(Default)]
struct Own {
    places: u32,
    asked: Duration,
}

impl Own {
    fn wants_some(&self, now: Duration) -> bool {
        self.places > 0 || now.saturating_sub(self.asked) < LATELY
    }
}

impl Turns {
    /// Counts these places until what is returned is dropped.
    pub(crate) fn take(&self, model: &str, key: &Rc<str>, places: u32, now: Duration) -> Turn {
        let mut models = self.0.borrow_mut();
        let keys = models.entry(model.to_owned()).or_default();
        if keys.of.len() >= keys.most {
            keys.of.retain(|_, own| own.wants_some(now));
            keys.most = 2 * keys.of.len() + 8;
        }
        let is_alone = !keys.of.iter().any(|(other, own)| other != key && own.wants_some(now));
        let own = keys.of.entry(Rc::clone(key)).or_default();
        let before = own.places;
        (own.places, own.asked) = (before.saturating_add(places), now);
        let places = own.places - before;
        Turn { turns: self.clone(), model: model.to_owned(), key: Rc::clone(key), places, before, is_alone }
    }
}

/// Places of a key.
pub(crate) struct Turn {
    turns: Turns,
    model: String,
    key: Rc<str>,
    places: u32,
    before: u32,
    is_alone: bool,
}

impl Turn {
    /// Those that the same key held when it was taken.
    pub(crate) fn before(&self) -> u32 {
        self.before
    }

    /// Whether no other key held any when it was taken, or asked for some within the last minute.
    pub(crate) fn is_alone(&self) -> bool {
        self.is_alone
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut models = self.turns.0.borrow_mut();
        if let Some(own) = models.get_mut(&self.model).and_then(|keys| keys.of.get_mut(&self.key)) {
            own.places = own.places.saturating_sub(self.places);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_by_model_and_key_until_they_are_left() {
        let turns = Turns::default();
        let [a, b]: [Rc<str>; 2] = ["a".into(), "b".into()];
        let at = Duration::from_secs;
        let first = turns.take("m", &a, 3, at(1));
        let second = turns.take("m", &a, 1, at(1));
        assert_eq!((first.before(), second.before(), second.is_alone()), (0, 3, true));
        assert_eq!(turns.take("n", &b, 1, at(1)).before(), 0);
        assert!(turns.take("n", &b, 1, at(1)).is_alone(), "another model's");
        drop(first);
        assert_eq!(turns.take("m", &a, 1, at(2)).before(), 1);
        drop(second);
        assert_eq!(turns.take("m", &a, 1, at(3)).before(), 0);
    }

    #[test]
    fn who_asked_lately_still_wants_places() {
        let turns = Turns::default();
        let [a, b]: [Rc<str>; 2] = ["a".into(), "b".into()];
        let at = Duration::from_secs;
        let held = turns.take("m", &a, 1, at(1));
        assert!(!turns.take("m", &b, 1, at(100)).is_alone(), "another holds one");
        assert!(!turns.take("m", &a, 1, at(159)).is_alone(), "another held one");
        assert!(turns.take("m", &a, 1, at(160)).is_alone());
        drop(held);
        // Keys that want nothing any more are forgotten.
        for key in 0..1000 {
            turns.take("m", &key.to_string().into(), 1, at(200 + 60 * key));
        }
        assert!(turns.0.borrow()["m"].of.len() < 20);
    }
}
