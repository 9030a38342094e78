//! Dispatches of what reads and writes the KV cache.

use super::case::{grid, uniform, words};
use super::{Case, PageLayout, Random};
use crate::params::*;
use crate::{Kernel, Variant};

/// A case of `rope_write`. Row r of sequence r % 2 stands at position `position` + 5·r.
#[derive(Clone, Copy, Debug)]
pub struct RopeCase {
    /// Query heads.
    pub heads: u32,
    /// Key-value heads.
    pub kv_heads: u32,
    /// Width of a head.
    pub head_dim: u32,
    /// Elements that rotate.
    pub rotated: u32,
    /// [`rope_pairs`].
    pub pairs: u32,
    /// Whether Q and K heads are normalised.
    pub qk_norm: bool,
    /// Batch rows.
    pub rows: u32,
    /// First batch row.
    pub first_row: u32,
    /// Position of row 0.
    pub position: u32,
    /// Multiplies cosine and sine.
    pub magnitude: f32,
}

impl RopeCase {
    /// The dispatch.
    pub fn case(&self, variant: &'static Variant) -> Case {
        let mut random = Random::new(4);
        let kv = variant.kv.unwrap_or_default();
        let total = self.first_row + self.rows;
        let stride = (self.heads + 2 * self.kv_heads) * self.head_dim + 5;
        let table_stride = (self.position + 5 * total) / PAGE_LEN + 1;
        let rows: Vec<RowInfo> =
            (0..total).map(|r| RowInfo { position: self.position + 5 * r, sequence: r % 2, ..RowInfo::default() }).collect();
        // Only pages that rows write to exist.
        let mut tables = vec![NO_PAGE; (2 + 2 * table_stride) as usize];
        let mut pages = 0;
        for row in &rows {
            let entry = &mut tables[(2 + row.sequence * table_stride + row.position / PAGE_LEN) as usize];
            if *entry == NO_PAGE {
                *entry = pages;
                pages += 1;
            }
        }
        let params = RopeParams {
            heads: self.heads,
            kv_heads: self.kv_heads,
            head_dim: self.head_dim,
            kv_stride: kv_stride(self.head_dim, kv),
            qkv_stride: stride,
            rows: self.rows,
            first_row: self.first_row,
            rotated: self.rotated,
            table_offset: 2,
            table_stride,
            magnitude: self.magnitude,
            eps: 1e-6,
        };
        let frequencies: Vec<f32> = (0..self.rotated / 2).map(|i| 10000f32.powf(-2.0 * i as f32 / self.rotated.max(1) as f32)).collect();
        let pool = vec![0u32; (u64::from(pages) * page_bytes(self.kv_heads, self.head_dim, kv) / 4) as usize];
        let buffers = vec![
            uniform(&params),
            words(&rows),
            words(&tables),
            words(&frequencies),
            words(&random.values(self.head_dim as usize)),
            words(&random.values(self.head_dim as usize)),
            words(&random.values((total * stride) as usize)),
            pool.clone(),
            pool,
        ];
        let overrides = vec![("PAIRS", f64::from(self.pairs)), ("QK_NORM", f64::from(u8::from(self.qk_norm)))];
        let mut case = Case { what: format!("{self:?}"), variant, overrides, grid: [0; 3], buffers };
        case.grid = grid(&case);
        case
    }
}

/// A case of the attention kernels: two sequences, whose rows stand at their ends.
#[derive(Clone, Copy, Debug)]
pub struct AttendCase {
    /// Query heads.
    pub heads: u32,
    /// Key-value heads.
    pub kv_heads: u32,
    /// Width of a head.
    pub head_dim: u32,
    /// Positions a row sees, or 0.
    pub window: u32,
    /// Whether rows see only what came before.
    pub causal: bool,
    /// c, or 0.
    pub softcap: f32,
    /// Positions of each sequence.
    pub lengths: [u32; 2],
    /// Rows of each sequence: its last positions.
    pub rows: [u32; 2],
}

impl AttendCase {
    /// The dispatch. Pages lie in no order, those that no row sees are let go, and those that exist hold NaN past the end.
    pub fn case(&self, variant: &'static Variant) -> Case {
        let mut random = Random::new(5);
        let first_row = 1;
        let mut rows = vec![RowInfo::default()];
        let mut tiles = vec![];
        for s in 0..2 {
            let (length, count) = (self.lengths[s], self.rows[s]);
            for (i, position) in (length - count..length).enumerate() {
                if (i as u32).is_multiple_of(QUERY_TILE) {
                    tiles.push(Tile { first_row: rows.len() as u32, rows: (count - i as u32).min(QUERY_TILE) });
                }
                rows.push(RowInfo { position, sequence: s as u32, length, ..RowInfo::default() });
            }
        }
        let longest = self.lengths[0].max(self.lengths[1]);
        let table_stride = longest.div_ceil(PAGE_LEN) + 1;
        let mut tables = vec![NO_PAGE; 1 + 2 * table_stride as usize];
        let mut pages = 0;
        for s in 0..2 {
            let first_position = self.lengths[s] - self.rows[s];
            let seen_from = if self.window == 0 { 0 } else { (first_position + 1).saturating_sub(self.window) };
            for block in (seen_from / PAGE_LEN..self.lengths[s].div_ceil(PAGE_LEN)).rev() {
                tables[1 + s * table_stride as usize + block as usize] = pages;
                pages += 1;
            }
        }
        let kv = variant.kv.unwrap_or_default();
        let stride = kv_stride(self.head_dim, kv);
        let layout = PageLayout { format: kv, kv_heads: self.kv_heads, stride };
        let page_words = (u64::from(pages) * page_bytes(self.kv_heads, self.head_dim, kv) / 4) as usize;
        let pool = |random: &mut Random| -> Vec<u32> {
            // NaN as an f16, and so as a scale.
            let mut pool = vec![0x7e00_7e00; page_words];
            for (s, &length) in self.lengths.iter().enumerate() {
                for position in 0..length {
                    let page = tables[1 + s * table_stride as usize + (position / PAGE_LEN) as usize];
                    if page == NO_PAGE {
                        continue;
                    }
                    for head in 0..self.kv_heads {
                        let values: Vec<f64> = (0..self.head_dim).map(|_| f64::from(random.value())).collect();
                        layout.store(&mut pool, page, head, position % PAGE_LEN, &values);
                    }
                }
            }
            pool
        };
        let (k_pages, v_pages) = (pool(&mut random), pool(&mut random));
        let total = rows.len() as u32;
        let qkv_stride = (self.heads + 2 * self.kv_heads) * self.head_dim + 3;
        let att_stride = self.heads * self.head_dim + 4;
        let mut params = AttendParams {
            heads: self.heads,
            kv_heads: self.kv_heads,
            head_dim: self.head_dim,
            kv_stride: stride,
            qkv_stride,
            att_stride,
            rows: total - first_row,
            first_row,
            table_offset: 1,
            table_stride,
            window: self.window,
            causal: self.causal.into(),
            splits: splits(longest, self.window),
            scale: 2.0 / (self.head_dim as f32).sqrt(),
            softcap: self.softcap,
            pad: 0,
        };
        let qkv = random.values((total * qkv_stride) as usize);
        let att = random.values((total * att_stride) as usize);
        let (k_words, v_words) = (k_pages, v_pages);
        let partials = vec![0f32; partials_len(params.rows, self.heads, params.splits, self.head_dim) as usize];
        let buffers = match variant.kernel {
            Kernel::AttendPrompt => {
                params.rows = tiles.len() as u32;
                params.first_row = 0;
                vec![uniform(&params), words(&rows), words(&tables), words(&tiles), words(&qkv), k_words, v_words, words(&att)]
            }
            Kernel::AttendReduce => {
                let mut folded = partials;
                super::attend_split(&params, &rows, &tables, &qkv, &layout.decode(&k_words), &layout.decode(&v_words), &mut folded);
                vec![uniform(&params), words(&rows), words(&folded), words(&att)]
            }
            _ => vec![uniform(&params), words(&rows), words(&tables), words(&qkv), k_words, v_words, words(&partials)],
        };
        let mut case = Case { what: format!("{self:?}"), variant, overrides: vec![], grid: [0; 3], buffers };
        case.grid = grid(&case);
        case
    }
}
