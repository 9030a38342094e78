//! Which variant of a kernel runs: rungs by format, sizes by shape.
//!
//! A rung is chosen once, at load, and never by what a batch holds: rungs may differ in their bits, sizes of one rung may not.

use std::collections::BTreeMap;
use std::fmt::Write;

use firecrest_shaders::{Caps, Format, Kernel, KvFormat, Rung, TABLE, Variant};

use crate::error::{Error, ErrorCode, Result};

use super::adapter::Without;

/// What a rung is chosen for: a kernel, and the format of what it reads, where it comes in several.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) kernel: Kernel,
    /// Of weights.
    pub(super) format: Option<Format>,
    /// Of keys and values.
    pub(super) kv: Option<KvFormat>,
}

impl Key {
    /// A kernel that comes in no formats.
    pub(super) const fn of(kernel: Kernel) -> Key {
        Key { kernel, format: None, kv: None }
    }

    /// A kernel over weights.
    pub(super) const fn weights(kernel: Kernel, format: Format) -> Key {
        Key { kernel, format: Some(format), kv: None }
    }

    /// A kernel over pages.
    pub(super) const fn pages(kernel: Kernel, kv: KvFormat) -> Key {
        Key { kernel, format: None, kv: Some(kv) }
    }

    /// What a kernel's rows are chosen by, for a model of these formats.
    pub(super) fn all(kernel: Kernel, formats: &[Format], kv: &[KvFormat]) -> Vec<Key> {
        match TABLE.iter().find(|v| v.kernel == kernel) {
            Some(row) if row.format.is_some() => formats.iter().map(|&format| Key::weights(kernel, format)).collect(),
            Some(row) if row.kv.is_some() => kv.iter().map(|&kv| Key::pages(kernel, kv)).collect(),
            _ => vec![Key::of(kernel)],
        }
    }

    /// Its rows of one rung.
    pub(super) fn variants(self, rung: Rung) -> impl Iterator<Item = &'static Variant> {
        TABLE.iter().filter(move |v| (v.kernel, v.format, v.kv, v.rung) == (self.kernel, self.format, self.kv, rung))
    }
}

impl std::fmt::Display for Key {
    /// The kernel's name; behind a dot the format, where it is not the one there always is.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.kernel.name())?;
        match (self.format, self.kv) {
            (Some(format), _) => write!(f, ".{format}"),
            (None, Some(kv)) if kv != KvFormat::F16 => write!(f, ".{kv}"),
            _ => Ok(()),
        }
    }
}

/// The rungs chosen, and why others were not.
#[derive(Clone, Debug)]
pub struct Selection {
    caps: Caps,
    without: Without,
    /// What stepped away from the order of preference.
    chosen: BTreeMap<Key, Rung>,
    /// Rungs that failed the self-check, each with the reason.
    failed: Vec<(Key, Rung, String)>,
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
    pub(super) fn rungs(&self, key: Key) -> Vec<Rung> {
        let rest = [Rung::F16, Rung::IntDotSubgroup, Rung::IntDot];
        let possible = |rung: Rung| {
            key.variants(rung).any(|variant| self.allows(variant)) && !self.failed.iter().any(|(k, r, _)| (*k, *r) == (key, rung))
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
            let mut message = format!("this GPU has no working `{key}` kernel; run on the CPU");
            for (_, rung, reason) in self.failed.iter().filter(|(k, ..)| *k == key) {
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
    pub(super) fn fail(&mut self, key: Key, rung: Rung, reason: String) {
        self.chosen.remove(&key);
        self.failed.push((key, rung, reason));
    }

    /// Rungs that failed the self-check, one sentence each.
    pub fn failures(&self) -> Vec<String> {
        self.failed.iter().map(|(key, rung, reason)| format!("{key} on rung {}: {reason}", rung.name())).collect()
    }

    /// Kernels grouped by the rung they run on, for weights of `formats` and caches of `kv`.
    pub(super) fn text(&self, formats: &[Format], kv: &[KvFormat]) -> String {
        let mut by_rung: BTreeMap<Rung, Vec<String>> = BTreeMap::new();
        for kernel in Kernel::ALL.into_iter().filter(|kernel| !kernel.adapts()) {
            for key in Key::all(kernel, formats, kv) {
                if let Ok(rung) = self.rung(key) {
                    by_rung.entry(rung).or_default().push(key.to_string());
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
        Ok(key.variants(self.rung(key)?).filter(|variant| self.allows(variant)))
    }

    /// The one whose `size` is the smallest that holds `wanted`, or the largest there is.
    fn fitting(&self, key: Key, wanted: u32, size: fn(&Variant) -> u32) -> Result<&'static Variant> {
        let fitting = self.sizes(key)?.filter(|v| size(v) >= wanted).min_by_key(|v| size(v));
        let largest = || Ok::<_, Error>(self.sizes(key)?.max_by_key(|v| size(v)));
        match fitting {
            Some(variant) => Ok(variant),
            None => largest()?.ok_or_else(|| Error::internal(format!("no variant of `{key}`"))),
        }
    }

    /// The variant of a kernel that has one size.
    pub(super) fn only(&self, kernel: Kernel, format: Option<Format>) -> Result<&'static Variant> {
        self.fitting(Key { kernel, format, kv: None }, 0, |_| 1)
    }

    /// The kernel that writes pages.
    pub(super) fn rope_write(&self, kv: KvFormat) -> Result<&'static Variant> {
        self.fitting(Key::pages(Kernel::RopeWrite, kv), 0, |_| 1)
    }

    /// The matrix kernel for so many rows.
    pub(super) fn matrix(&self, kernel: Kernel, format: Format, rows: u32) -> Result<&'static Variant> {
        self.fitting(Key::weights(kernel, format), rows, Variant::rows)
    }

    /// The split kernel for so many query heads a KV head.
    pub(super) fn attend_split(&self, kv: KvFormat, heads_per_kv: u32) -> Result<&'static Variant> {
        self.fitting(Key::pages(Kernel::AttendSplit, kv), heads_per_kv, Variant::group)
    }

    /// The prompt attention for heads of this width.
    pub(super) fn attend_prompt(&self, kv: KvFormat, head_dim: u32) -> Result<&'static Variant> {
        let variant = self.fitting(Key::pages(Kernel::AttendPrompt, kv), head_dim, Variant::head_dim)?;
        if variant.head_dim() < head_dim {
            return Err(Error::unsupported(format!(
                "attention heads are {head_dim} wide; GPU kernels take at most {}",
                variant.head_dim()
            )));
        }
        Ok(variant)
    }
}
