//! `firecrest devices`: adapters, what they can do, and the rung chosen on each.

use clap::Args;
use firecrest::engine::backend::Backend;
use firecrest::{BackendKind, Device};
use pollster::block_on;
use serde_json::json;

use super::{Outcome, show};

/// Adapters, what they can do, and the rung chosen on each.
#[derive(Args)]
#[command(after_help = "Examples:\n  firecrest devices\n  firecrest devices --json")]
pub(crate) struct Devices {
    /// Only adapters whose name contains this.
    #[arg(long, value_name = "SUBSTRING")]
    adapter: Option<String>,
    /// A JSON array on stdout.
    #[arg(long)]
    json: bool,
}

struct Entry {
    backend: &'static str,
    name: String,
    api: String,
    kind: String,
    caps: String,
    rung: Result<String, String>,
}

fn rung(device: &Device) -> Result<(String, String), String> {
    block_on(device.backend()).map(|b: Backend| b.describe()).map(|d| (d.adapter, d.rung)).map_err(|e| e.to_string())
}

/// Capabilities as a person reads them.
#[cfg(feature = "gpu")]
fn caps(caps: &firecrest_shaders::Caps) -> String {
    let mut words = Vec::new();
    if caps.min_subgroup > 0 {
        words.push(format!("subgroups of {} or more", caps.min_subgroup));
    }
    if caps.f16 {
        words.push("f16".to_owned());
    }
    words.push(format!("{} invocations", caps.invocations));
    words.push(format!("{} workgroup memory", show::bytes(caps.workgroup_bytes.into())));
    words.join(", ")
}

#[cfg(feature = "gpu")]
fn gpus() -> Vec<Entry> {
    let adapters = block_on(firecrest::engine::backend::gpu::adapters());
    let entry = |a: firecrest::engine::backend::gpu::AdapterReport| {
        let device = Device { kind: BackendKind::Gpu, adapter: Some(a.name.clone()), threads: None };
        let rung = rung(&device).map(|(_, rung)| rung);
        let api = if a.driver.is_empty() { a.api } else { format!("{} ({})", a.api, a.driver) };
        Entry { backend: "gpu", name: a.name, api, kind: a.kind.to_owned(), caps: caps(&a.caps), rung }
    };
    adapters.into_iter().map(entry).collect()
}

#[cfg(not(feature = "gpu"))]
fn gpus() -> Vec<Entry> {
    Vec::new()
}

impl Devices {
    pub(crate) fn run(self) -> Outcome {
        let cpu = rung(&Device { kind: BackendKind::Cpu, ..Device::default() });
        let (name, rung) = match cpu {
            Ok((name, rung)) => (name, Ok(rung)),
            Err(e) => ("cpu".to_owned(), Err(e)),
        };
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let mut entries =
            vec![Entry { backend: "cpu", name: name.clone(), api: "native".into(), kind: format!("{cores} cores"), caps: name, rung }];
        entries.extend(gpus());
        if let Some(part) = &self.adapter {
            let part = part.to_lowercase();
            entries.retain(|e| e.name.to_lowercase().contains(&part));
        }
        if self.json {
            let array: Vec<_> = entries
                .iter()
                .map(|e| {
                    let (rung, error) = (e.rung.as_ref().ok(), e.rung.as_ref().err());
                    json!({"backend": e.backend, "name": e.name, "api": e.api, "kind": e.kind, "caps": e.caps, "rung": rung, "error": error})
                })
                .collect();
            return show::json(&array.into());
        }
        let text = |e: Entry| {
            let rung = e.rung.unwrap_or_else(|why| format!("unusable: {why}"));
            vec![e.backend.to_owned(), e.name, e.api, e.kind, e.caps, rung]
        };
        show::table(&["BACKEND", "ADAPTER", "API", "KIND", "CAPS", "RUNG"], &entries.into_iter().map(text).collect::<Vec<_>>())
    }
}
