//! What pages of a KV cache mean, and how a head is stored in them.

use crate::KvFormat;
use crate::params::PAGE_LEN;
use bytemuck::{cast_slice, cast_slice_mut};
use half::f16;

/// The largest f16, and so the largest scale of a head of 8-bit codes.
const LARGEST_SCALE: f64 = 65504.0;

/// How a layer's K (or V) pages are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageLayout {
    /// How values are stored.
    pub format: KvFormat,
    /// Key-value heads.
    pub kv_heads: u32,
    /// [`kv_stride`](crate::params::kv_stride).
    pub stride: u32,
}

/// A head in 8 bits as [`KvFormat::Int8`] defines it: its scale and codes.
pub fn quantise_head(head: &[f64]) -> (f16, Vec<i8>) {
    let largest = head.iter().fold(0.0f64, |m, v| m.max(v.abs()));
    if largest / 127.0 > LARGEST_SCALE || head.iter().any(|v| v.is_nan()) {
        return (f16::NAN, vec![0; head.len()]);
    }
    let scale = f16::from_f64(largest / 127.0);
    let step = scale.to_f64();
    let code = |v: &f64| if step > 0.0 { (v / step).round_ties_even().clamp(-127.0, 127.0) as i8 } else { 0 };
    (scale, head.iter().map(code).collect())
}

impl PageLayout {
    /// Bytes of codes in a page; their scales follow.
    fn code_bytes(&self) -> usize {
        (self.kv_heads * PAGE_LEN * self.stride) as usize
    }

    /// Bytes of a page.
    fn page_bytes(&self) -> usize {
        (u64::from(self.kv_heads * PAGE_LEN) * self.format.head_bytes(self.stride)) as usize
    }

    /// What the pages' words mean, `[page][kv head][PAGE_LEN][stride]`.
    pub fn decode(&self, words: &[u32]) -> Vec<f64> {
        match self.format {
            KvFormat::F16 => cast_slice::<u32, f16>(words).iter().map(|v| v.to_f64()).collect(),
            KvFormat::Int8 => {
                let mut values = Vec::new();
                for page in cast_slice::<u32, u8>(words).chunks_exact(self.page_bytes()) {
                    let (codes, scales) = page.split_at(self.code_bytes());
                    for (head, scale) in codes.chunks_exact(self.stride as usize).zip(cast_slice::<u8, f16>(scales)) {
                        values.extend(head.iter().map(|&code| f64::from(code as i8) * scale.to_f64()));
                    }
                }
                values
            }
        }
    }

    /// Stores a head, zeros behind it, at `position` (below [`PAGE_LEN`]) of a page.
    pub fn store(&self, words: &mut [u32], page: u32, kv_head: u32, position: u32, head: &[f64]) {
        let slot = (kv_head * PAGE_LEN + position) as usize;
        let stride = self.stride as usize;
        let page = &mut cast_slice_mut::<u32, u8>(words)[page as usize * self.page_bytes()..][..self.page_bytes()];
        match self.format {
            KvFormat::F16 => {
                let out = &mut cast_slice_mut::<u8, f16>(page)[slot * stride..][..stride];
                out.fill(f16::ZERO);
                head.iter().zip(out).for_each(|(v, o)| *o = f16::from_f64(*v));
            }
            KvFormat::Int8 => {
                let (codes, scales) = page.split_at_mut(self.code_bytes());
                let out = &mut codes[slot * stride..][..stride];
                let (scale, quantised) = quantise_head(head);
                out.fill(0);
                quantised.iter().zip(out).for_each(|(code, o)| *o = *code as u8);
                cast_slice_mut::<u8, f16>(scales)[slot] = scale;
            }
        }
    }

    /// Judges pages that a device wrote. Codes may differ by a step here and there, where a value lies between two, and scales by a unit
    /// in the last place. Returns the largest error: of scales, as a share of the largest; or the share of codes that differ.
    pub(super) fn compare_int8(&self, expected: &[u32], got: &[u32]) -> Result<f64, String> {
        let pages = |words: &'_ [u32]| -> (Vec<i8>, Vec<f64>) {
            let (mut all, mut scales) = (Vec::new(), Vec::new());
            for page in cast_slice::<u32, u8>(words).chunks_exact(self.page_bytes()) {
                let (codes, halves) = page.split_at(self.code_bytes());
                all.extend(codes.iter().map(|&code| code as i8));
                scales.extend(cast_slice::<u8, f16>(halves).iter().map(|v| v.to_f64()));
            }
            (all, scales)
        };
        let ((wanted, wanted_scales), (left, left_scales)) = (pages(expected), pages(got));
        let mut differ = 0;
        for (i, (want, is)) in wanted.iter().zip(&left).enumerate() {
            let apart = i32::from(*want).abs_diff(i32::from(*is));
            if apart > 1 {
                return Err(format!("code {i} is {is} and should be {want}"));
            }
            differ += apart;
        }
        let differ = f64::from(differ) / wanted.len().max(1) as f64;
        if differ > 0.01 {
            return Err(format!("{:.1} % of the codes are a step off", differ * 100.0));
        }
        let mut worst = 0.0f64;
        for (i, (want, is)) in wanted_scales.iter().zip(&left_scales).enumerate() {
            // Both NaN, or within a unit of f16: relative above its smallest normal, absolute below.
            let error = if want.is_nan() && is.is_nan() { 0.0 } else { (want - is).abs() / want.abs().max(6.2e-5) };
            if error.is_nan() || error > 1e-3 {
                return Err(format!("scale {i} is {is} and should be {want}"));
            }
            worst = worst.max(error);
        }
        Ok(worst.max(differ))
    }
}
