//! JSON Schemas (draft 2020-12) of the wire's types, as an OpenAPI 3.1 document wants them under `components.schemas`.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value};

/// Collects components. What comes in is described as it is read (defaults may be left out), what goes out as it is written (every key is there).
#[derive(Debug)]
pub struct Components {
    requests: SchemaGenerator,
    responses: SchemaGenerator,
    /// Both in one, where two types of one name can be seen: the second gets a number.
    #[cfg(test)]
    both: SchemaGenerator,
}

impl Default for Components {
    fn default() -> Components {
        Components::new()
    }
}

impl Components {
    /// None yet.
    pub fn new() -> Components {
        let settings = || {
            SchemaSettings::draft2020_12().with(|settings| {
                settings.definitions_path = "/components/schemas".into();
                settings.meta_schema = None;
            })
        };
        Components {
            requests: settings().for_deserialize().into_generator(),
            responses: settings().for_serialize().into_generator(),
            #[cfg(test)]
            both: settings().for_deserialize().into_generator(),
        }
    }

    /// Adds what callers send, and all that it is made of.
    #[must_use]
    pub fn request<T: JsonSchema>(mut self) -> Components {
        self.requests.subschema_for::<T>();
        #[cfg(test)]
        self.both.subschema_for::<T>();
        self
    }

    /// Adds what callers get, and all that it is made of.
    #[must_use]
    pub fn response<T: JsonSchema>(mut self) -> Components {
        self.responses.subschema_for::<T>();
        #[cfg(test)]
        self.both.subschema_for::<T>();
        self
    }

    /// All of them by name. A type that goes both ways is described as it is read.
    pub fn finish(mut self) -> Map<String, Value> {
        let mut all = self.responses.take_definitions(true);
        all.extend(self.requests.take_definitions(true));
        all
    }

    /// Names of all types, by whichever of them has it: where two types have one name, one more than [`Components::finish`] gives.
    #[cfg(test)]
    pub(crate) fn names(&mut self) -> Vec<String> {
        self.both.take_definitions(true).keys().cloned().collect()
    }
}
