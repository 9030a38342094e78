//! Safetensors: a 64-bit length, a JSON header of that length, data.
//!
//! The header maps names to `{"dtype", "shape", "data_offsets": [begin, end]}`, offsets counted from the end of the header. As the
//! format demands, tensors cover the data wholly, with neither gaps nor overlaps.

use std::fmt;

use firecrest_weights::ByteSource;
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::head::{Head, quoted};
use super::json;
use super::tensor::{MOST_TENSORS, TensorInfo};
use crate::error::{Error, Result};
use crate::quant::GgmlType;

/// The longest header the format allows.
const LONGEST_HEADER: u64 = 100_000_000;
/// Dimensions of a tensor, at most.
const MOST_DIMENSIONS: usize = 8;

/// Reads and checks the head of a safetensors file. Tensors come in order of their data, under their own names; `index` is the
/// source's number in its model.
pub(super) async fn read(source: &dyn ByteSource, index: u32) -> Result<Vec<TensorInfo>> {
    let mut head = Head::new(source);
    let length = head.u64("the header's length").await?;
    if length > LONGEST_HEADER {
        return Err(head
            .malformed(format_args!("not a safetensors file: its header would be {length} bytes long, and {LONGEST_HEADER} is the most")));
    }
    let mut list = List { tensors: Vec::new(), unknown: None, index };
    let text = head.take(length, "the header").await?;
    if text.first() != Some(&b'{') {
        return Err(head.malformed("not a safetensors file: its header does not begin with `{`"));
    }
    json::check(source.name(), text)?;
    let parsed = {
        let mut deserializer = serde_json::Deserializer::from_slice(text);
        (&mut list).deserialize(&mut deserializer).and_then(|()| deserializer.end())
    };
    if let Err(error) = parsed {
        return Err(json::wrong(source.name(), &error));
    }
    if let Some((name, dtype)) = list.unknown {
        let message = format!("{}: tensor {name} has the unknown type {dtype}", source.name());
        return Err(Error::unsupported(message));
    }
    let data = head.position() as u64;
    drop(head);
    place(list.tensors, source, data)
}

/// Turns data offsets into file offsets, and checks that tensors tile the data.
fn place(mut placed: Vec<(TensorInfo, u64)>, source: &dyn ByteSource, data: u64) -> Result<Vec<TensorInfo>> {
    let malformed = |message: String| Error::malformed(format!("{}: {message}", source.name()));
    placed.sort_unstable_by_key(|(t, end)| (t.offset, *end));
    let mut covered = 0;
    for (tensor, end) in &mut placed {
        let name = quoted(&tensor.name);
        if tensor.offset != covered {
            let what = if tensor.offset > covered { "leaves a gap after" } else { "overlaps what ends at" };
            return Err(malformed(format!("tensor {name} begins at byte {} of the data and {what} byte {covered}", tensor.offset)));
        }
        let begin = tensor.offset;
        tensor.offset = data.saturating_add(begin);
        tensor.check(source)?;
        // `check` has shown that this lies within the file, so nothing overflows.
        if begin + tensor.bytes() != *end {
            let (bytes, shape, ty) = (tensor.bytes(), &tensor.shape, tensor.ty);
            return Err(malformed(format!("tensor {name} has data_offsets [{begin}, {end}], but {shape:?} of {ty} takes {bytes} bytes")));
        }
        covered = *end;
    }
    let there = source.len() - data;
    if covered != there {
        return Err(malformed(format!("tensors cover {covered} bytes of data, but the file holds {there}")));
    }
    Ok(placed.into_iter().map(|(tensor, _)| tensor).collect())
}

/// The header as it is parsed.
struct List {
    /// Tensors with `begin` for an offset, and `end`.
    tensors: Vec<(TensorInfo, u64)>,
    /// The first tensor of unknown type, and that type, both quoted.
    unknown: Option<(String, String)>,
    index: u32,
}

impl<'de> DeserializeSeed<'de> for &mut List {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for &mut List {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<String>()? {
            if name == "__metadata__" {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            if self.tensors.len() as u64 == MOST_TENSORS {
                return Err(A::Error::custom(format_args!("more than {MOST_TENSORS} tensors")));
            }
            let fields = map.next_value_seed(Entry).map_err(|e| A::Error::custom(format_args!("tensor {}: {e}", quoted(&name))))?;
            match fields.dtype {
                Ok(ty) => {
                    let tensor = TensorInfo::new(name, ty, fields.shape, self.index, fields.offsets[0]);
                    self.tensors.push((tensor, fields.offsets[1]));
                }
                Err(dtype) => {
                    self.unknown.get_or_insert_with(|| (quoted(&name), dtype));
                }
            }
        }
        Ok(())
    }
}

struct Fields {
    /// An unknown one as quoted text.
    dtype: Result<GgmlType, String>,
    shape: Vec<usize>,
    offsets: [u64; 2],
}

struct Entry;

impl<'de> DeserializeSeed<'de> for Entry {
    type Value = Fields;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Fields, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Entry {
    type Value = Fields;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with dtype, shape and data_offsets")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
        let (mut dtype, mut shape, mut offsets) = (None, None, None);
        while let Some(key) = map.next_key::<std::borrow::Cow<'de, str>>()? {
            let again = match &*key {
                "dtype" => dtype.replace(map.next_value_seed(Dtype)?).is_some(),
                "shape" => shape.replace(map.next_value_seed(Shape)?).is_some(),
                "data_offsets" => offsets.replace(map.next_value::<[u64; 2]>()?).is_some(),
                other => return Err(A::Error::custom(format_args!("unknown field {}", quoted(other)))),
            };
            if again {
                return Err(A::Error::custom(format_args!("{key} is given twice")));
            }
        }
        let missing = A::Error::missing_field;
        Ok(Fields {
            dtype: dtype.ok_or_else(|| missing("dtype"))?,
            shape: shape.ok_or_else(|| missing("shape"))?,
            offsets: offsets.ok_or_else(|| missing("data_offsets"))?,
        })
    }
}

struct Dtype;

impl<'de> DeserializeSeed<'de> for Dtype {
    type Value = Result<GgmlType, String>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Dtype {
    type Value = Result<GgmlType, String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a type")
    }

    fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<Self::Value, E> {
        Ok(GgmlType::from_safetensors(name).ok_or_else(|| quoted(name)))
    }
}

struct Shape;

impl<'de> DeserializeSeed<'de> for Shape {
    type Value = Vec<usize>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Vec<usize>, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Shape {
    type Value = Vec<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of extents")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<usize>, A::Error> {
        let (mut extents, mut len) = ([0; MOST_DIMENSIONS], 0);
        while let Some(extent) = seq.next_element::<usize>()? {
            if len == MOST_DIMENSIONS {
                return Err(A::Error::custom(format_args!("more than {MOST_DIMENSIONS} dimensions")));
            }
            extents[len] = extent;
            len += 1;
        }
        Ok(extents[..len].to_vec())
    }
}
