//! Element and block types, as GGUF numbers them.

use firecrest_shaders::Format;

/// How a tensor's values are stored in a file.
///
/// Every type with a ggml id, and the element types safetensors has beside them, is known by name and size, so that a file holding
/// one can be opened and inspected. Those that [`GgmlType::is_supported`] denies cannot be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs, reason = "a variant is its ggml name; what blocks hold is said beside each decoder")]
pub enum GgmlType {
    F32,
    F16,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q8_1,
    Q2K,
    Q3K,
    Q4K,
    Q5K,
    Q6K,
    Q8K,
    IQ2XXS,
    IQ2XS,
    IQ3XXS,
    IQ1S,
    IQ4NL,
    IQ3S,
    IQ2S,
    IQ4XS,
    I8,
    I16,
    I32,
    I64,
    F64,
    IQ1M,
    BF16,
    TQ1_0,
    TQ2_0,
    MXFP4,
    NVFP4,
    Q1_0,
    // Only safetensors has these; they have no ggml id.
    Bool,
    U8,
    U16,
    U32,
    U64,
    F8E4M3,
    F8E5M2,
}

/// One row of the table of types.
struct Layout {
    ty: GgmlType,
    id: Option<u32>,
    name: &'static str,
    block_len: usize,
    block_bytes: usize,
}

const fn ggml(ty: GgmlType, id: u32, name: &'static str, block_len: usize, block_bytes: usize) -> Layout {
    Layout { ty, id: Some(id), name, block_len, block_bytes }
}

const fn safetensors(ty: GgmlType, name: &'static str, bytes: usize) -> Layout {
    Layout { ty, id: None, name, block_len: 1, block_bytes: bytes }
}

/// In the order of the enum, so that a type's row is at its discriminant.
const TABLE: [Layout; 41] = {
    use GgmlType::*;
    [
        ggml(F32, 0, "F32", 1, 4),
        ggml(F16, 1, "F16", 1, 2),
        ggml(Q4_0, 2, "Q4_0", 32, 18),
        ggml(Q4_1, 3, "Q4_1", 32, 20),
        ggml(Q5_0, 6, "Q5_0", 32, 22),
        ggml(Q5_1, 7, "Q5_1", 32, 24),
        ggml(Q8_0, 8, "Q8_0", 32, 34),
        ggml(Q8_1, 9, "Q8_1", 32, 36),
        ggml(Q2K, 10, "Q2_K", 256, 84),
        ggml(Q3K, 11, "Q3_K", 256, 110),
        ggml(Q4K, 12, "Q4_K", 256, 144),
        ggml(Q5K, 13, "Q5_K", 256, 176),
        ggml(Q6K, 14, "Q6_K", 256, 210),
        ggml(Q8K, 15, "Q8_K", 256, 292),
        ggml(IQ2XXS, 16, "IQ2_XXS", 256, 66),
        ggml(IQ2XS, 17, "IQ2_XS", 256, 74),
        ggml(IQ3XXS, 18, "IQ3_XXS", 256, 98),
        ggml(IQ1S, 19, "IQ1_S", 256, 50),
        ggml(IQ4NL, 20, "IQ4_NL", 32, 18),
        ggml(IQ3S, 21, "IQ3_S", 256, 110),
        ggml(IQ2S, 22, "IQ2_S", 256, 82),
        ggml(IQ4XS, 23, "IQ4_XS", 256, 136),
        ggml(I8, 24, "I8", 1, 1),
        ggml(I16, 25, "I16", 1, 2),
        ggml(I32, 26, "I32", 1, 4),
        ggml(I64, 27, "I64", 1, 8),
        ggml(F64, 28, "F64", 1, 8),
        ggml(IQ1M, 29, "IQ1_M", 256, 56),
        ggml(BF16, 30, "BF16", 1, 2),
        ggml(TQ1_0, 34, "TQ1_0", 256, 54),
        ggml(TQ2_0, 35, "TQ2_0", 256, 66),
        ggml(MXFP4, 39, "MXFP4", 32, 17),
        ggml(NVFP4, 40, "NVFP4", 64, 36),
        ggml(Q1_0, 41, "Q1_0", 128, 18),
        safetensors(Bool, "BOOL", 1),
        safetensors(U8, "U8", 1),
        safetensors(U16, "U16", 2),
        safetensors(U32, "U32", 4),
        safetensors(U64, "U64", 8),
        safetensors(F8E4M3, "F8_E4M3", 1),
        safetensors(F8E5M2, "F8_E5M2", 1),
    ]
};

const _: () = {
    let mut i = 0;
    while i < TABLE.len() {
        assert!(TABLE[i].ty as usize == i, "TABLE is out of the enum's order");
        i += 1;
    }
};

impl GgmlType {
    /// Every type that Firecrest decodes.
    pub const SUPPORTED: [GgmlType; 15] = [
        GgmlType::F32,
        GgmlType::F16,
        GgmlType::BF16,
        GgmlType::Q4_0,
        GgmlType::Q4_1,
        GgmlType::Q5_0,
        GgmlType::Q5_1,
        GgmlType::Q8_0,
        GgmlType::Q2K,
        GgmlType::Q3K,
        GgmlType::Q4K,
        GgmlType::Q5K,
        GgmlType::Q6K,
        GgmlType::IQ4NL,
        GgmlType::IQ4XS,
    ];

    const fn layout(self) -> &'static Layout {
        &TABLE[self as usize]
    }

    /// The type a GGUF file means by `id`; `None` for ids nobody has defined and for those ggml has withdrawn
    /// ([`GgmlType::withdrawn`]).
    pub fn from_id(id: u32) -> Option<GgmlType> {
        TABLE.iter().find(|row| row.id == Some(id)).map(|row| row.ty)
    }

    /// The type safetensors means by a `dtype`: a plain element type, which it names as ggml does.
    pub fn from_safetensors(dtype: &str) -> Option<GgmlType> {
        TABLE.iter().find(|row| row.block_len == 1 && row.name == dtype).map(|row| row.ty)
    }

    /// The name of a type that ggml once had under `id` and has withdrawn. Files that hold one must be converted again.
    pub const fn withdrawn(id: u32) -> Option<&'static str> {
        match id {
            4 => Some("Q4_2"),
            5 => Some("Q4_3"),
            31 => Some("Q4_0_4_4"),
            32 => Some("Q4_0_4_8"),
            33 => Some("Q4_0_8_8"),
            36 => Some("IQ4_NL_4_4"),
            37 => Some("IQ4_NL_4_8"),
            38 => Some("IQ4_NL_8_8"),
            _ => None,
        }
    }

    /// GGUF's number, where it has one.
    pub const fn id(self) -> Option<u32> {
        self.layout().id
    }

    /// The name used in files and messages.
    pub const fn name(self) -> &'static str {
        self.layout().name
    }

    /// Values in one block; a row's length is a multiple of it.
    pub const fn block_len(self) -> usize {
        self.layout().block_len
    }

    /// Bytes of one block.
    pub const fn block_bytes(self) -> usize {
        self.layout().block_bytes
    }

    /// Bytes of a row of `columns` values. `columns` is a multiple of [`GgmlType::block_len`].
    pub const fn row_bytes(self, columns: usize) -> usize {
        columns / self.block_len() * self.block_bytes()
    }

    /// Whether [`super::dequantise`] decodes it.
    pub const fn is_supported(self) -> bool {
        self.kernel_format().is_some()
    }

    /// The format kernels run a matrix of this type in; `None` where Firecrest cannot decode it.
    ///
    /// A type with kernels of its own stays as it is. BF16 widens to F32, which is exact (F16 would lose its range). Every other
    /// quantised type becomes Q8_0: where its codes and scale fit, without a change ([`super::requantise`]), otherwise with a rounding error well below that
    /// of the 5 bits or fewer it came from.
    pub const fn kernel_format(self) -> Option<Format> {
        match self {
            GgmlType::F32 | GgmlType::BF16 => Some(Format::F32),
            GgmlType::F16 => Some(Format::F16),
            GgmlType::Q4_0 => Some(Format::Q4_0),
            GgmlType::Q4K => Some(Format::Q4K),
            GgmlType::Q6K => Some(Format::Q6K),
            GgmlType::Q8_0
            | GgmlType::Q4_1
            | GgmlType::Q5_0
            | GgmlType::Q5_1
            | GgmlType::Q2K
            | GgmlType::Q3K
            | GgmlType::Q5K
            | GgmlType::IQ4NL
            | GgmlType::IQ4XS => Some(Format::Q8_0),
            _ => None,
        }
    }

    /// Whether blocks of this type are what kernels mean by `format`, byte for byte.
    pub fn is_format(self, format: Format) -> bool {
        GgmlType::from(format) == self
    }
}

impl From<Format> for GgmlType {
    fn from(format: Format) -> GgmlType {
        match format {
            Format::F32 => GgmlType::F32,
            Format::F16 => GgmlType::F16,
            Format::Q4_0 => GgmlType::Q4_0,
            Format::Q8_0 => GgmlType::Q8_0,
            Format::Q4K => GgmlType::Q4K,
            Format::Q6K => GgmlType::Q6K,
        }
    }
}

impl std::fmt::Display for GgmlType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
