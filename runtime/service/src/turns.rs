//! How many answers of a model each key has under way: what its share of the model's queue goes by.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

/// Counts of answers by model and key. Clones share them.
#[derive(Clone, Default)]
pub(crate) struct Turns(Rc<RefCell<HashMap<Of, u32>>>);

/// A model, and a key.
type Of = (String, Rc<str>);

impl Turns {
    /// Counts these answers until what is returned is dropped.
    pub(crate) fn take(&self, model: &str, key: &Rc<str>, answers: u32) -> Turn {
        let of = (model.to_owned(), Rc::clone(key));
        let mut counts = self.0.borrow_mut();
        let count = counts.entry(of.clone()).or_default();
        let before = *count;
        *count = count.saturating_add(answers);
        Turn { turns: self.clone(), of, answers: *count - before, before }
    }
}

/// Answers of a key that are under way.
pub(crate) struct Turn {
    turns: Turns,
    of: Of,
    answers: u32,
    before: u32,
}

impl Turn {
    /// Those of the same key that were under way when it was taken.
    pub(crate) fn before(&self) -> u32 {
        self.before
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut counts = self.turns.0.borrow_mut();
        if let Some(count) = counts.get_mut(&self.of) {
            *count -= self.answers;
            if *count == 0 {
                counts.remove(&self.of);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_counted_by_model_and_key_until_they_end() {
        let turns = Turns::default();
        let [a, b]: [Rc<str>; 2] = ["a".into(), "b".into()];
        let first = turns.take("m", &a, 3);
        let second = turns.take("m", &a, 1);
        assert_eq!([first.before(), second.before(), turns.take("m", &b, 1).before(), turns.take("n", &a, 1).before()], [0, 3, 0, 0]);
        drop(first);
        assert_eq!(turns.take("m", &a, 1).before(), 1);
        drop(second);
        assert!(turns.0.borrow().is_empty());
    }
}
