//! Which variant of a kernel runs: rungs by format, sizes by shape.
//!
//! A rung is chosen once, at load, and never by what a batch holds: rungs may differ in their bits, sizes of one rung may not.

use std::collections::BTreeMap;
use std::fmt::Write;

use firecrest_shaders::{Caps, Format, Kernel, Rung, TABLE, Variant, variants};

use crate::error::{Error, ErrorCode, Result};

use super::adapter::Without;

/// What a rung is chosen for.
pub(super) type Key = (Kernel, Option<Format>);

/// The rungs chosen, and why others were not.
#[derive(Clone, Debug)]
pub struct Selection {
    caps: Caps,
    without: Without,
    /// What stepped away from the order of preference.
    chosen: BTreeMap<Key, Rung>,
    /// Rungs that failed the self-check, each with the reason.
    failed: Vec<(Kernel, Option<Format>, Rung, String)>,
}

/// Rungs by preference where no clock can tell which is fastest. F16 and int-dot change the arithmetic and are faster on some
/// devices only, so they are taken when they were timed.
const PREFERENCE: [Rung; 2] = [Rung::Subgroup, Rung::Plain];

impl Selection {
    /// Everything by preference.
    pub fn new(caps: Caps, without: Without) -> Selection {
        Selection { caps, without, chosen: BTreeMap::new(), failed: Vec::new() }
    }

    /// What was probed.
    pub fn caps(&self) -> &Caps {
        &self.caps
    }

    /// What is kept off.
    pub(super) fn without(&self) -> Without {
        self.without
    }

    /// Whether a pipeline can be made of the variant here, and is wanted.
    pub(super) fn allows(&self, variant: &Variant) -> bool {
        self.caps.meets(variant.needs)
            && !(self.without.subgroups && variant.needs.subgroups)
            && !(self.without.f16 && variant.needs.f16)
            && !(self.without.int_dot && variant.rung.is_int_dot())
            && variant.workgroup_size.iter().product::<u32>() <= self.caps.invocations
            && variant.workgroup_bytes <= self.caps.workgroup_bytes
            && (variant.bindings.len() as u32).saturating_sub(1) <= self.caps.storage_buffers
    }

    /// Rungs of a kernel that can run here and have not failed: those of the order of preference first.
    pub(super) fn rungs(&self, (kernel, format): Key) -> Vec<Rung> {
        let rest = [Rung::F16, Rung::IntDotSubgroup, Rung::IntDot];
        let possible = |rung: Rung| {
            variants(kernel, format, rung).any(|variant| self.allows(variant))
                && !self.failed.iter().any(|(k, f, r, _)| (*k, *f, *r) == (kernel, format, rung))
        };
        PREFERENCE.into_iter().chain(rest).filter(|&rung| possible(rung)).collect()
    }

    /// The rung a kernel runs on.
    pub(super) fn rung(&self, key: Key) -> Result<Rung> {
        if let Some(&rung) = self.chosen.get(&key) {
            return Ok(rung);
        }
        // A rung beyond the preference is never fallen into untimed.
        self.rungs(key).into_iter().find(|rung| PREFERENCE.contains(rung)).ok_or_else(|| {
            let (kernel, format) = key;
            let format = format.map(|f| format!(" for {f}")).unwrap_or_default();
            let mut message = format!("this GPU has no working `{}` kernel{format}; run on the CPU", kernel.name());
            for (_, _, rung, reason) in self.failed.iter().filter(|(k, f, ..)| (*k, *f) == key) {
                let _ = write!(message, "; {}: {reason}", rung.name());
            }
            Error::new(ErrorCode::Device, message)
        })
    }

    /// Takes a rung that was timed.
    pub(super) fn choose(&mut self, key: Key, rung: Rung) {
        self.chosen.insert(key, rung);
    }

    /// Keeps a rung from being used again.
    pub(super) fn fail(&mut self, (kernel, format): Key, rung: Rung, reason: String) {
        self.chosen.remove(&(kernel, format));
        self.failed.push((kernel, format, rung, reason));
    }

    /// Rungs that failed the self-check, one sentence each.
    pub fn failures(&self) -> Vec<String> {
        let name = |format: &Option<Format>| format.map(|f| format!(" {f}")).unwrap_or_default();
        self.failed
            .iter()
            .map(|(kernel, format, rung, reason)| format!("{}{} on rung {}: {reason}", kernel.name(), name(format), rung.name()))
            .collect()
    }

    /// Kernels grouped by the rung they run on, for formats in `formats`.
    pub(super) fn text(&self, formats: &[Format]) -> String {
        let mut by_rung: BTreeMap<Rung, Vec<String>> = BTreeMap::new();
        for kernel in Kernel::ALL.into_iter().filter(|kernel| !kernel.adapts()) {
            let formatted = TABLE.iter().any(|v| v.kernel == kernel && v.format.is_some());
            let keys: Vec<Option<Format>> = if formatted { formats.iter().copied().map(Some).collect() } else { vec![None] };
            for format in keys {
                if let Ok(rung) = self.rung((kernel, format)) {
                    let name = format.map_or(kernel.name().to_owned(), |f| format!("{}.{f}", kernel.name()));
                    by_rung.entry(rung).or_default().push(name);
                }
            }
        }
        match by_rung.len() {
            1 => by_rung.keys().map(|rung| rung.name().to_owned()).collect(),
            _ => by_rung.iter().map(|(rung, names)| format!("{}: {}", rung.name(), names.join(" "))).collect::<Vec<_>>().join("; "),
        }
    }

    /// Variants of the chosen rung that can run here.
    fn sizes(&self, key: Key) -> Result<impl Iterator<Item = &'static Variant>> {
        Ok(variants(key.0, key.1, self.rung(key)?).filter(|variant| self.allows(variant)))
    }

    /// The one whose `size` is the smallest that holds `wanted`, or the largest there is.
    fn fitting(&self, key: Key, wanted: u32, size: fn(&Variant) -> u32) -> Result<&'static Variant> {
        let fitting = self.sizes(key)?.filter(|v| size(v) >= wanted).min_by_key(|v| size(v));
        let largest = || Ok::<_, Error>(self.sizes(key)?.max_by_key(|v| size(v)));
        match fitting {
            Some(variant) => Ok(variant),
            None => largest()?.ok_or_else(|| Error::internal(format!("no variant of `{}`", key.0.name()))),
        }
    }

    /// The variant of a kernel that has one size.
    pub(super) fn only(&self, kernel: Kernel, format: Option<Format>) -> Result<&'static Variant> {
        self.fitting((kernel, format), 0, |_| 1)
    }

    /// The matrix kernel for so many rows.
    pub(super) fn matrix(&self, kernel: Kernel, format: Format, rows: u32) -> Result<&'static Variant> {
        self.fitting((kernel, Some(format)), rows, Variant::rows)
    }

    /// The split kernel for so many query heads a KV head.
    pub(super) fn attend_split(&self, heads_per_kv: u32) -> Result<&'static Variant> {
        self.fitting((Kernel::AttendSplit, None), heads_per_kv, Variant::group)
    }

    /// The prompt attention for heads of this width.
    pub(super) fn attend_prompt(&self, head_dim: u32) -> Result<&'static Variant> {
        let variant = self.fitting((Kernel::AttendPrompt, None), head_dim, Variant::head_dim)?;
        if variant.head_dim() < head_dim {
            return Err(Error::unsupported(format!(
                "attention heads are {head_dim} wide; GPU kernels take at most {}",
                variant.head_dim()
            )));
        }
        Ok(variant)
    }
}
