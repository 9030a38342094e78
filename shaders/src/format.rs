//! The storage formats that kernels run natively.

/// How a weight matrix is stored where kernels read it.
///
/// Every other GGML type is widened or requantised to one of these while a model loads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Format {
    /// IEEE binary32.
    F32,
    /// IEEE binary16.
    F16,
    /// 32 values: f16 scale `d`, 4-bit codes; value = d·(q − 8).
    Q4_0,
    /// 32 values: f16 scale `d`, signed 8-bit codes; value = d·q.
    Q8_0,
    /// 256 values in 8 groups of 32: f16 `d` and `dmin`, 6-bit scales and minima; value = d·sc·q − dmin·m.
    Q4K,
    /// 256 values in 16 groups of 16: f16 `d`, signed 8-bit scales; value = d·sc·(q − 32).
    Q6K,
}

impl Format {
    /// Every format, in the order of tables and tests.
    pub const ALL: [Format; 6] = [Format::F32, Format::F16, Format::Q4_0, Format::Q8_0, Format::Q4K, Format::Q6K];

    /// Values in one block; a row's length must be a multiple of it.
    pub const fn block_len(self) -> usize {
        match self {
            Format::F32 | Format::F16 => 1,
            Format::Q4_0 | Format::Q8_0 => 32,
            Format::Q4K | Format::Q6K => 256,
        }
    }

    /// Bytes of one block as GGML stores it on disk.
    pub const fn block_bytes(self) -> usize {
        match self {
            Format::F32 => 4,
            Format::F16 => 2,
            Format::Q4_0 => 18,
            Format::Q8_0 => 34,
            Format::Q4K => 144,
            Format::Q6K => 210,
        }
    }

    /// Bytes of a row of `columns` values on disk. `columns` is a multiple of [`Format::block_len`].
    pub const fn row_bytes(self, columns: usize) -> usize {
        columns / self.block_len() * self.block_bytes()
    }

    /// Whether values are codes with scales rather than floats.
    pub const fn is_quantised(self) -> bool {
        !matches!(self, Format::F32 | Format::F16)
    }

    /// The name used in tables, files and messages.
    pub const fn name(self) -> &'static str {
        match self {
            Format::F32 => "F32",
            Format::F16 => "F16",
            Format::Q4_0 => "Q4_0",
            Format::Q8_0 => "Q8_0",
            Format::Q4K => "Q4_K",
            Format::Q6K => "Q6_K",
        }
    }
}

impl std::fmt::Display for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// How keys and values are stored in the pages of a KV cache.
///
/// A page of a layer's K (or V) holds [`PAGE_LEN`](crate::params::PAGE_LEN) positions of every KV head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum KvFormat {
    /// IEEE binary16.
    #[default]
    F16,
    /// Signed 8-bit codes and one f16 scale a position and KV head, K and V each: value = scale · code.
    ///
    /// scale = max|x| / 127, rounded to f16; code = x / scale to the nearest, ties to even, within ±127; where the scale rounds to 0
    /// so are the codes. Where the largest is no number, infinite, or so large that its scale passes f16's 65504, the scale is NaN: the head
    /// reads as NaN throughout, so that what went wrong shows in every output that sees it.
    Int8,
}

impl KvFormat {
    /// Every format, in the order of tables and tests.
    pub const ALL: [KvFormat; 2] = [KvFormat::F16, KvFormat::Int8];

    /// The name used in tables, options and messages.
    pub const fn name(self) -> &'static str {
        match self {
            KvFormat::F16 => "f16",
            KvFormat::Int8 => "int8",
        }
    }

    /// Bytes of a head of `head_dim` values at one position, K or V, without padding.
    pub const fn head_bytes(self, head_dim: u32) -> u64 {
        match self {
            KvFormat::F16 => 2 * head_dim as u64,
            KvFormat::Int8 => head_dim as u64 + 2,
        }
    }
}

impl std::fmt::Display for KvFormat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
