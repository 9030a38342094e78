//! The gate.

use firecrest_contract::event::Event;

/// An event as a backend made it. Only the gate can open it.
#[derive(Debug)]
pub struct Unjudged(Event);

impl Unjudged {
    /// What a backend made.
    pub fn new(event: Event) -> Unjudged {
        Unjudged(event)
    }
}

/// An event that a caller may see. Only the gate makes them.
#[derive(Debug, PartialEq)]
pub struct Judged(Event);

impl Judged {
    /// What may be seen.
    pub fn event(&self) -> &Event {
        &self.0
    }

    /// What may be seen.
    pub fn into_event(self) -> Event {
        self.0
    }
}
