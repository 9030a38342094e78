//! What a model file says of itself: typed values by key.
//!
//! Values stay in the bytes they were read in, with a small sorted index beside them, so that a vocabulary of a quarter of a
//! million strings costs what it costs on disk. Safetensors models get the same form: what their `config.json` says is written
//! here under GGUF's keys ([`MetadataWriter`]).

use super::head::quoted;
use crate::error::{Error, Result};

/// The most entries a file may have; models have a few dozen.
pub(super) const MOST_ENTRIES: u64 = 16_384;
/// Arrays may stand in arrays this deep. No known model nests them at all.
pub(super) const DEEPEST: usize = 4;

/// GGUF's value types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs, reason = "GGUF's own names")]
pub enum ValueType {
    U8 = 0,
    I8 = 1,
    U16 = 2,
    I16 = 3,
    U32 = 4,
    I32 = 5,
    F32 = 6,
    Bool = 7,
    Str = 8,
    Array = 9,
    U64 = 10,
    I64 = 11,
    F64 = 12,
}

impl ValueType {
    const ALL: [ValueType; 13] = [
        ValueType::U8,
        ValueType::I8,
        ValueType::U16,
        ValueType::I16,
        ValueType::U32,
        ValueType::I32,
        ValueType::F32,
        ValueType::Bool,
        ValueType::Str,
        ValueType::Array,
        ValueType::U64,
        ValueType::I64,
        ValueType::F64,
    ];

    pub(super) fn from_id(id: u32) -> Option<ValueType> {
        ValueType::ALL.get(id as usize).copied()
    }

    /// Bytes of one value; `None` for strings and arrays, which say their own length.
    pub(super) const fn width(self) -> Option<usize> {
        match self {
            ValueType::U8 | ValueType::I8 | ValueType::Bool => Some(1),
            ValueType::U16 | ValueType::I16 => Some(2),
            ValueType::U32 | ValueType::I32 | ValueType::F32 => Some(4),
            ValueType::U64 | ValueType::I64 | ValueType::F64 => Some(8),
            ValueType::Str | ValueType::Array => None,
        }
    }

    /// The name used in messages.
    pub const fn name(self) -> &'static str {
        match self {
            ValueType::U8 => "u8",
            ValueType::I8 => "i8",
            ValueType::U16 => "u16",
            ValueType::I16 => "i16",
            ValueType::U32 => "u32",
            ValueType::I32 => "i32",
            ValueType::F32 => "f32",
            ValueType::Bool => "bool",
            ValueType::Str => "string",
            ValueType::Array => "array",
            ValueType::U64 => "u64",
            ValueType::I64 => "i64",
            ValueType::F64 => "f64",
        }
    }
}

/// Where an entry's key and value lie in the bytes. 16 bytes, less than the least an entry takes on disk.
#[derive(Clone, Copy)]
pub(super) struct Entry {
    pub(super) key: u32,
    pub(super) key_len: u32,
    pub(super) value: u32,
    pub(super) ty: ValueType,
}

/// Typed values by key, sorted by key.
///
/// Accessors give `Ok(None)` for an absent key and an error that names the key where its value is of another type; `require_*`
/// make absence an error too. Integers of every width answer to every integer accessor whose range holds them.
pub struct Metadata {
    /// What messages call the file.
    origin: String,
    bytes: Vec<u8>,
    entries: Vec<Entry>,
}

/// One value, borrowed from the metadata.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// Any unsigned integer.
    Unsigned(u64),
    /// Any signed integer.
    Signed(i64),
    /// Any float.
    Float(f64),
    /// A bool.
    Bool(bool),
    /// A string's bytes; they ought to be UTF-8.
    Str(&'a [u8]),
    /// An array.
    Array(Array<'a>),
}

/// An array's elements, undecoded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Array<'a> {
    /// Their type.
    pub element: ValueType,
    /// How many.
    pub len: usize,
    /// From the first element to the end of the file's metadata.
    bytes: &'a [u8],
}

fn word<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    std::array::from_fn(|i| bytes[at + i])
}

/// The value of type `ty` at the start of `bytes`, and the bytes it takes. The reader has checked that all of it is there.
fn decode(ty: ValueType, bytes: &[u8]) -> (Value<'_>, usize) {
    let value = match ty {
        ValueType::U8 => Value::Unsigned(bytes[0].into()),
        ValueType::I8 => Value::Signed((bytes[0] as i8).into()),
        ValueType::U16 => Value::Unsigned(u16::from_le_bytes(word(bytes, 0)).into()),
        ValueType::I16 => Value::Signed(i16::from_le_bytes(word(bytes, 0)).into()),
        ValueType::U32 => Value::Unsigned(u32::from_le_bytes(word(bytes, 0)).into()),
        ValueType::I32 => Value::Signed(i32::from_le_bytes(word(bytes, 0)).into()),
        ValueType::U64 => Value::Unsigned(u64::from_le_bytes(word(bytes, 0))),
        ValueType::I64 => Value::Signed(i64::from_le_bytes(word(bytes, 0))),
        ValueType::F32 => Value::Float(f32::from_le_bytes(word(bytes, 0)).into()),
        ValueType::F64 => Value::Float(f64::from_le_bytes(word(bytes, 0))),
        ValueType::Bool => Value::Bool(bytes[0] != 0),
        ValueType::Str => {
            let len = u64::from_le_bytes(word(bytes, 0)) as usize;
            return (Value::Str(&bytes[8..8 + len]), 8 + len);
        }
        ValueType::Array => {
            // The element type was checked when the file was read.
            let element = ValueType::from_id(u32::from_le_bytes(word(bytes, 0))).unwrap_or(ValueType::U8);
            let len = u64::from_le_bytes(word(bytes, 4)) as usize;
            let array = Array { element, len, bytes: &bytes[12..] };
            // Nested arrays are counted and never entered, so that the length of one is not needed.
            return (Value::Array(array), 12);
        }
    };
    (value, ty.width().unwrap_or(0))
}

impl<'a> Array<'a> {
    /// The elements. Empty for an array of arrays, which nothing needs.
    pub fn iter(self) -> impl Iterator<Item = Value<'a>> {
        let len = if self.element == ValueType::Array { 0 } else { self.len };
        let mut bytes = self.bytes;
        (0..len).map(move |_| {
            let (value, used) = decode(self.element, bytes);
            bytes = &bytes[used..];
            value
        })
    }
}

impl Value<'_> {
    fn kind(&self) -> &'static str {
        match self {
            Value::Unsigned(_) => "an unsigned integer",
            Value::Signed(_) => "a signed integer",
            Value::Float(_) => "a float",
            Value::Bool(_) => "a bool",
            Value::Str(_) => "a string",
            Value::Array(_) => "an array",
        }
    }

    fn integer(&self) -> Option<i128> {
        match *self {
            Value::Unsigned(v) => Some(v.into()),
            Value::Signed(v) => Some(v.into()),
            _ => None,
        }
    }
}

/// As `inspect` shows it: strings quoted and cut, arrays by their first elements.
impl std::fmt::Display for Value<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match *self {
            Value::Unsigned(v) => write!(f, "{v}"),
            Value::Signed(v) => write!(f, "{v}"),
            Value::Float(v) => write!(f, "{v}"),
            Value::Bool(v) => write!(f, "{v}"),
            Value::Str(bytes) => {
                let shown = bytes.len().min(320);
                f.write_str(&quoted(&String::from_utf8_lossy(&bytes[..shown])))?;
                if shown < bytes.len() { write!(f, " ({} bytes)", bytes.len()) } else { Ok(()) }
            }
            Value::Array(array) => {
                write!(f, "{} × {}", array.len, array.element.name())?;
                for (i, value) in array.iter().take(6).enumerate() {
                    write!(f, "{}{value}", if i == 0 { ": " } else { ", " })?;
                }
                if array.len > 6 && array.element != ValueType::Array { f.write_str(", …") } else { Ok(()) }
            }
        }
    }
}

impl Metadata {
    /// An index over entries that were read from `bytes`. A key that stands twice is an error.
    pub(super) fn new(origin: &str, bytes: Vec<u8>, mut entries: Vec<Entry>) -> Result<Metadata> {
        let key = |e: &Entry| &bytes[e.key as usize..(e.key + e.key_len) as usize];
        entries.sort_unstable_by(|a, b| key(a).cmp(key(b)));
        if let Some(pair) = entries.windows(2).find(|pair| key(&pair[0]) == key(&pair[1])) {
            let name = quoted(&String::from_utf8_lossy(key(&pair[0])));
            return Err(Error::malformed(format!("{origin}: the key {name} stands in the metadata twice")));
        }
        Ok(Metadata { origin: origin.to_owned(), bytes, entries })
    }

    fn key(&self, entry: &Entry) -> &str {
        // Keys were checked to be UTF-8 when they were read.
        std::str::from_utf8(&self.bytes[entry.key as usize..(entry.key + entry.key_len) as usize]).unwrap_or("")
    }

    fn decode(&self, entry: &Entry) -> Value<'_> {
        decode(entry.ty, &self.bytes[entry.value as usize..]).0
    }

    /// What messages call the file this came from.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// All keys and values, by key.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, Value<'_>)> {
        self.entries.iter().map(|e| (self.key(e), self.decode(e)))
    }

    /// The value of a key, of whatever type.
    pub fn value(&self, key: &str) -> Option<Value<'_>> {
        let found = self.entries.binary_search_by(|e| self.key(e).as_bytes().cmp(key.as_bytes())).ok()?;
        Some(self.decode(&self.entries[found]))
    }

    fn wrong(&self, key: &str, value: Value<'_>, wanted: &str) -> Error {
        Error::malformed(format!("{}: {} should be {wanted}, but is {} ({value})", self.origin, quoted(key), value.kind()))
    }

    fn scalar<'a, T>(&'a self, key: &str, wanted: &str, convert: impl Fn(&Value<'a>) -> Option<T>) -> Result<Option<T>> {
        let Some(value) = self.value(key) else { return Ok(None) };
        convert(&value).map(Some).ok_or_else(|| self.wrong(key, value, wanted))
    }

    fn array<'a, T>(&'a self, key: &str, wanted: &str, convert: impl Fn(&Value<'a>) -> Option<T>) -> Result<Option<Vec<T>>> {
        let Some(value) = self.value(key) else { return Ok(None) };
        let Value::Array(array) = value else { return Err(self.wrong(key, value, wanted)) };
        if array.element == ValueType::Array {
            return Err(self.wrong(key, value, wanted));
        }
        // The length was held against the bytes that are there, so it may be allocated.
        let mut out = Vec::with_capacity(array.len);
        for (i, element) in array.iter().enumerate() {
            let Some(element) = convert(&element) else {
                let message = format!("{}: {}[{i}] does not fit {wanted}: {element}", self.origin, quoted(key));
                return Err(Error::malformed(message));
            };
            out.push(element);
        }
        Ok(Some(out))
    }

    fn required<T>(&self, key: &str, found: Result<Option<T>>) -> Result<T> {
        found?.ok_or_else(|| Error::malformed(format!("{}: the metadata lacks {}", self.origin, quoted(key))))
    }

    /// An unsigned integer below 2³².
    pub fn u32(&self, key: &str) -> Result<Option<u32>> {
        self.scalar(key, "an unsigned 32-bit integer", |v| u32::try_from(v.integer()?).ok())
    }

    /// A finite float.
    pub fn f32(&self, key: &str) -> Result<Option<f32>> {
        self.scalar(key, "a finite float", |v| match *v {
            Value::Float(v) => Some(v as f32).filter(|v| v.is_finite()),
            _ => None,
        })
    }

    /// A bool.
    pub fn bool(&self, key: &str) -> Result<Option<bool>> {
        self.scalar(key, "a bool", |v| match *v {
            Value::Bool(v) => Some(v),
            _ => None,
        })
    }

    /// A UTF-8 string.
    pub fn str(&self, key: &str) -> Result<Option<&str>> {
        self.scalar(key, "a UTF-8 string", |v| match *v {
            Value::Str(v) => std::str::from_utf8(v).ok(),
            _ => None,
        })
    }

    /// An array of UTF-8 strings.
    pub fn strings(&self, key: &str) -> Result<Option<Vec<&str>>> {
        self.array(key, "an array of UTF-8 strings", |v| match *v {
            Value::Str(v) => std::str::from_utf8(v).ok(),
            _ => None,
        })
    }

    /// An array of floats, which may be infinite (token scores are).
    pub fn f32s(&self, key: &str) -> Result<Option<Vec<f32>>> {
        self.array(key, "an array of floats", |v| match *v {
            Value::Float(v) => Some(v as f32),
            _ => None,
        })
    }

    /// An array of integers within −2³¹..2³¹.
    pub fn i32s(&self, key: &str) -> Result<Option<Vec<i32>>> {
        self.array(key, "an array of 32-bit integers", |v| i32::try_from(v.integer()?).ok())
    }

    /// An array of integers below 2³².
    pub fn u32s(&self, key: &str) -> Result<Option<Vec<u32>>> {
        self.array(key, "an array of unsigned 32-bit integers", |v| u32::try_from(v.integer()?).ok())
    }

    /// An array of bools.
    pub fn bools(&self, key: &str) -> Result<Option<Vec<bool>>> {
        self.array(key, "an array of bools", |v| match *v {
            Value::Bool(v) => Some(v),
            _ => None,
        })
    }

    /// [`Metadata::u32`], which must be there.
    pub fn require_u32(&self, key: &str) -> Result<u32> {
        self.required(key, self.u32(key))
    }

    /// [`Metadata::f32`], which must be there.
    pub fn require_f32(&self, key: &str) -> Result<f32> {
        self.required(key, self.f32(key))
    }

    /// [`Metadata::bool`], which must be there.
    pub fn require_bool(&self, key: &str) -> Result<bool> {
        self.required(key, self.bool(key))
    }

    /// [`Metadata::str`], which must be there.
    pub fn require_str(&self, key: &str) -> Result<&str> {
        self.required(key, self.str(key))
    }

    /// [`Metadata::strings`], which must be there.
    pub fn require_strings(&self, key: &str) -> Result<Vec<&str>> {
        self.required(key, self.strings(key))
    }

    /// [`Metadata::f32s`], which must be there.
    pub fn require_f32s(&self, key: &str) -> Result<Vec<f32>> {
        self.required(key, self.f32s(key))
    }

    /// [`Metadata::i32s`], which must be there.
    pub fn require_i32s(&self, key: &str) -> Result<Vec<i32>> {
        self.required(key, self.i32s(key))
    }
}

/// Writes metadata under GGUF's keys, for models whose files say the same in other words.
#[derive(Default)]
pub(super) struct MetadataWriter {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
}

impl MetadataWriter {
    fn entry(&mut self, key: &str, ty: ValueType) {
        let start = self.bytes.len() as u32;
        self.bytes.extend_from_slice(key.as_bytes());
        self.entries.push(Entry { key: start, key_len: key.len() as u32, value: self.bytes.len() as u32, ty });
    }

    fn array(&mut self, key: &str, element: ValueType, len: usize) {
        self.entry(key, ValueType::Array);
        self.bytes.extend_from_slice(&u32::from(element as u8).to_le_bytes());
        self.bytes.extend_from_slice(&(len as u64).to_le_bytes());
    }

    pub(super) fn u32(&mut self, key: &str, value: u32) {
        self.entry(key, ValueType::U32);
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    pub(super) fn f32(&mut self, key: &str, value: f32) {
        self.entry(key, ValueType::F32);
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    pub(super) fn bool(&mut self, key: &str, value: bool) {
        self.entry(key, ValueType::Bool);
        self.bytes.push(value.into());
    }

    pub(super) fn str(&mut self, key: &str, value: &str) {
        self.entry(key, ValueType::Str);
        self.bytes.extend_from_slice(&(value.len() as u64).to_le_bytes());
        self.bytes.extend_from_slice(value.as_bytes());
    }

    pub(super) fn u32s(&mut self, key: &str, values: &[u32]) {
        self.array(key, ValueType::U32, values.len());
        values.iter().for_each(|v| self.bytes.extend_from_slice(&v.to_le_bytes()));
    }

    pub(super) fn finish(self, origin: &str) -> Result<Metadata> {
        Metadata::new(origin, self.bytes, self.entries)
    }
}
