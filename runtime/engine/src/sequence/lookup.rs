//! Drafts without a second model: what followed the last time the text read as it does now.

/// Tokens that must agree for the text behind them to be worth a try, longest first.
const MATCHES: [usize; 3] = [4, 3, 2];

/// Drafts at most. With the token before them they fill the kernels for up to eight rows.
pub(crate) const MOST: u32 = 7;

/// How far to look ahead, learnt from what became of earlier drafts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lookup {
    /// Tokens to draft next time.
    length: u32,
    /// Draws to sit out, doubled with every draft that was wrong from its first token.
    rest: u32,
    penalty: u32,
}

impl Default for Lookup {
    fn default() -> Lookup {
        Lookup { length: 3, rest: 0, penalty: 1 }
    }
}

impl Lookup {
    /// Up to `most` tokens that may follow `text`.
    pub(crate) fn draft(&self, text: &[u32], most: u32) -> Vec<u32> {
        if self.rest > 0 {
            return Vec::new();
        }
        let most = most.min(self.length) as usize;
        MATCHES.iter().find_map(|&n| following(text, n, most)).unwrap_or_default()
    }

    /// A token was drawn; of those drafted before it, so many were right.
    pub(crate) fn learn(&mut self, drafted: u32, right: u32) {
        match right {
            _ if drafted == 0 => self.rest = self.rest.saturating_sub(1),
            0 => {
                self.rest = self.penalty;
                self.penalty = (self.penalty * 2).min(64);
                self.length = 2;
            }
            _ if right == drafted => {
                self.penalty = 1;
                self.length = (self.length * 2).min(MOST);
            }
            _ => {
                self.penalty = 1;
                self.length = right + 1;
            }
        }
    }
}

/// What followed the last earlier place where `text` reads as its last `n` tokens do.
fn following(text: &[u32], n: usize, most: usize) -> Option<Vec<u32>> {
    let begin = text.len().checked_sub(n)?;
    let (before, last) = (&text[..text.len() - 1], &text[begin..]);
    let at = before.windows(n).rposition(|window| window == last)?;
    let follow = &text[at + n..];
    (most > 0).then(|| follow[..follow.len().min(most)].to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_longest_match_leads() {
        assert_eq!(following(&[1, 2, 3, 4, 1, 2], 2, 8), Some(vec![3, 4, 1, 2]));
        assert_eq!(following(&[1, 2, 3, 1, 2, 9, 1, 2], 2, 1), Some(vec![9]));
        assert_eq!(following(&[5, 5, 5], 2, 4), Some(vec![5]));
        assert_eq!(following(&[1, 2], 2, 4), None);
        assert_eq!(following(&[1], 2, 4), None);
        let lookup = Lookup::default();
        assert_eq!(lookup.draft(&[7, 1, 2, 3, 8, 1, 2, 9, 7, 1, 2], 9), [3, 8, 1]);
    }

    #[test]
    fn wrong_drafts_become_rare() {
        let mut lookup = Lookup::default();
        let text = [1, 2, 3, 1, 2];
        let tries = (0..100).filter(|_| {
            let drafted = lookup.draft(&text, 9).len() as u32;
            lookup.learn(drafted, 0);
            drafted > 0
        });
        assert!(tries.count() < 10);
    }
}
