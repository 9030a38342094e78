//! JSON Schemas (draft 2020-12) of the wire's types, as an OpenAPI 3.1 document wants them under `components.schemas`.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value};

/// Collects components. What comes in is described as it is read (defaults may be left out), what goes out as it is written (every key is there).
#[derive(Debug)]
pub struct Components {
    requests: SchemaGenerator,
    responses: SchemaGenerator,
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
        Components { requests: settings().for_deserialize().into_generator(), responses: settings().for_serialize().into_generator() }
    }

    /// Adds what callers send, and all that it is made of.
    #[must_use]
    pub fn request<T: JsonSchema>(mut self) -> Components {
        self.requests.subschema_for::<T>();
        self
    }

    /// Adds what callers get, and all that it is made of.
    #[must_use]
    pub fn response<T: JsonSchema>(mut self) -> Components {
        self.responses.subschema_for::<T>();
        self
    }

    /// All of them by name. A type that goes both ways is described as it is read.
    pub fn finish(mut self) -> Map<String, Value> {
        let mut all = self.responses.take_definitions(true);
        all.extend(self.requests.take_definitions(true));
        all
    }
}
