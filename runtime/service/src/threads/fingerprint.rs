//! Why a prompt does not begin as the one before it did: fingerprints of both, side by side.

use std::fmt::{self, Write};
use std::hash::{DefaultHasher, Hasher};

use firecrest_contract::ask::{Ask, Role};
use firecrest_contract::messages::CacheMiss;
use serde::{Deserialize, Serialize};

/// What is kept of a prompt to tell whether another begins like it. Holds no text. Whoever makes two prompts of one hash fools only themselves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Fingerprint {
    model: u64,
    system: u64,
    tools: u64,
    /// What else a template may look at.
    rest: u64,
    /// Parts of the conversation, and all of them.
    parts: usize,
    said: u64,
    /// Of the whole prompt, once it is known.
    pub(crate) tokens: u64,
}

/// Hashes what is written to it.
#[derive(Default)]
struct Hash(DefaultHasher);

impl Write for Hash {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.write(text.as_bytes());
        Ok(())
    }
}

impl Hash {
    fn add(&mut self, value: impl fmt::Debug) {
        // Nothing fails that writes here.
        let _ = writeln!(self, "{value:?}");
    }

    fn of(value: impl fmt::Debug) -> u64 {
        let mut hash = Hash::default();
        hash.add(value);
        hash.0.finish()
    }
}

impl Fingerprint {
    /// Of a prompt, for the model that its name means.
    pub(crate) fn of(ask: &Ask, model: &str) -> Fingerprint {
        Fingerprint::up_to(ask, model, usize::MAX)
    }

    /// Breakpoints don't count: they move from request to request.
    fn up_to(ask: &Ask, model: &str, most: usize) -> Fingerprint {
        let (system, turns) = match ask.turns.split_first() {
            Some((first, turns)) if first.role == Role::System => (Some(first), turns),
            _ => (None, ask.turns.as_slice()),
        };
        let system: Vec<_> = system.iter().flat_map(|turn| &turn.parts).map(|part| &part.content).collect();
        let tools: Vec<_> = ask.tools.iter().map(|tool| (&tool.name, &tool.description, &tool.schema, tool.strict)).collect();
        let (mut said, mut parts) = (Hash::default(), 0);
        // By parts, not turns: messages of one side that follow each other are one turn.
        for (role, part) in turns.iter().flat_map(|turn| turn.parts.iter().map(move |part| (turn.role, part))).take(most) {
            said.add((role, &part.content));
            parts += 1;
        }
        Fingerprint {
            model: Hash::of(model),
            system: Hash::of(system),
            tools: Hash::of(tools),
            rest: Hash::of((&ask.thinking, &ask.tool_choice, ask.parallel_tools, &ask.format)),
            parts,
            said: said.0.finish(),
            tokens: 0,
        }
    }

    /// Why a prompt does not begin as this one did, if it doesn't.
    pub(crate) fn missed_by(&self, ask: &Ask, model: &str) -> Option<CacheMiss> {
        let new = Fingerprint::up_to(ask, model, self.parts);
        let cache_missed_input_tokens = self.tokens;
        match () {
            () if new.model != self.model => Some(CacheMiss::ModelChanged { cache_missed_input_tokens }),
            () if new.system != self.system => Some(CacheMiss::SystemChanged { cache_missed_input_tokens }),
            () if new.tools != self.tools => Some(CacheMiss::ToolsChanged { cache_missed_input_tokens }),
            () if (new.parts, new.said) != (self.parts, self.said) => Some(CacheMiss::MessagesChanged { cache_missed_input_tokens }),
            () if new.rest != self.rest => Some(CacheMiss::Unavailable),
            () => None,
        }
    }
}
