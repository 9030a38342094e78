//! LoRA adapters: GGUF adapters as llama.cpp makes them, and PEFT folders, behind one view.
//!
//! An adapter is a list of pairs: for a matrix W of the base model, A `[rank, inputs]` and B `[outputs, rank]`, and a scale, so that
//! `y = W·x + scale · B·(A·x)`. What is no plain LoRA (DoRA, trained biases, whole modules beside it) is refused by name, for leaving it out
//! would answer with another model than the one that was trained.

mod gguf;
mod peft;

use firecrest_weights::ByteSource;

use super::head::quoted;
use super::{ModelFile, TensorInfo, huggingface};
use crate::error::{Error, Result};

/// The largest rank that is read. Those in use are 4 to 256.
pub const MOST_RANK: usize = 512;

/// Where names and the order of rows come from.
enum Kind {
    /// GGUF's names; the architecture of the base model.
    Gguf { architecture: String },
    /// Hugging Face's.
    Peft,
}

/// One adapted matrix.
pub(crate) struct Pair {
    /// What the file calls the matrix of the base model, without `.weight` in PEFT's names.
    module: String,
    /// `[rank, inputs]`.
    pub(crate) a: TensorInfo,
    /// `[outputs, rank]`.
    pub(crate) b: TensorInfo,
    /// α / rank, or α / √rank.
    pub(crate) scale: f32,
}

impl Pair {
    pub(crate) fn rank(&self) -> usize {
        self.a.rows()
    }
}

/// An opened adapter: its pairs, found and shaped right in themselves. Whether they fit a model is for the model to say.
pub struct AdapterFile {
    file: ModelFile,
    kind: Kind,
    pairs: Vec<Pair>,
}

impl AdapterFile {
    /// Opens an adapter from its sources, in any order: one GGUF file, or a PEFT folder's `adapter_config.json` and `adapter_model.safetensors`
    /// (other files of the folder may be among them).
    ///
    /// # Errors
    /// What is no adapter, an adapter that is no plain LoRA, or one whose tensors don't make pairs: by the name of what is wrong.
    pub async fn open(mut sources: Vec<Box<dyn ByteSource>>) -> Result<AdapterFile> {
        let Some(first) = sources.first() else {
            return Err(Error::request("no file was given to open an adapter from"));
        };
        let first = first.name().to_owned();
        if huggingface::find(&sources, peft::CONFIG).is_some() {
            // A training's folder may hold more, even a whole model.
            sources.retain(|s| [peft::CONFIG, peft::WEIGHTS].contains(&huggingface::file_name(&**s)));
            let Some(config) = huggingface::find(&sources, peft::CONFIG) else { return Err(Error::internal("a source is gone")) };
            let config = peft::Config::read(config).await?;
            if huggingface::find(&sources, peft::WEIGHTS).is_none() {
                return Err(Error::malformed(format!(
                    "{}: there is no {} beside it; pickled weights (adapter_model.bin) are not read, save the adapter as safetensors",
                    config.origin,
                    peft::WEIGHTS
                )));
            }
            let file = ModelFile::open(sources).await?;
            let pairs = peft::pairs(&config, &file)?;
            return Ok(AdapterFile { file, kind: Kind::Peft, pairs });
        }
        if sources.iter().any(|s| s.name().ends_with(".safetensors")) {
            return Err(Error::malformed(format!("{first}: an adapter in safetensors needs its {} beside it", peft::CONFIG)));
        }
        let file = ModelFile::open(sources).await?;
        let architecture = gguf::architecture(&file)?;
        let pairs = gguf::pairs(&file)?;
        Ok(AdapterFile { file, kind: Kind::Gguf { architecture }, pairs })
    }

    /// What messages call it: the name of its first file.
    pub fn name(&self) -> &str {
        self.file.name()
    }

    /// How many matrices it adapts.
    pub fn adapted(&self) -> usize {
        self.pairs.len()
    }

    /// The least and the largest rank of its pairs.
    pub fn ranks(&self) -> (usize, usize) {
        let ranks = || self.pairs.iter().map(Pair::rank);
        (ranks().min().unwrap_or(0), ranks().max().unwrap_or(0))
    }

    /// The architecture of the base model, where the file says it.
    pub fn architecture(&self) -> Option<&str> {
        match &self.kind {
            Kind::Gguf { architecture } => Some(architecture),
            Kind::Peft => None,
        }
    }

    /// Whether rows of Q and K stand as Hugging Face has them, where GGUF permutes them (llama).
    pub(crate) fn keeps_hugging_face_rows(&self) -> bool {
        matches!(self.kind, Kind::Peft)
    }

    pub(crate) fn pairs(&self) -> &[Pair] {
        &self.pairs
    }

    /// GGUF's name of the tensor that a pair adapts, in a base model of this architecture. None where that has no such name.
    pub(crate) fn base_tensor(&self, pair: &Pair, architecture: &str) -> Option<String> {
        match &self.kind {
            Kind::Gguf { .. } => Some(pair.module.clone()),
            Kind::Peft => huggingface::gguf_name(architecture, &format!("{}.weight", pair.module)),
        }
    }

    /// All values of one of its tensors.
    pub(crate) async fn values(&self, tensor: &TensorInfo) -> Result<Vec<f32>> {
        self.file.read_f32(tensor).await
    }
}

/// A tensor's part in a pair.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Half {
    A,
    B,
}

/// Pairs up tensors, each sorted by the module it belongs to. `scale` is told module and rank.
fn pair_up(
    file: &ModelFile,
    halves: Vec<(String, Half, &TensorInfo)>,
    mut scale: impl FnMut(&str, usize) -> Result<f32>,
) -> Result<Vec<Pair>> {
    let mut pairs = Vec::with_capacity(halves.len() / 2);
    let mut rest = halves;
    // Names are unique, so a module has one of each half at most.
    rest.sort_by(|x, y| (&x.0, x.1 == Half::B).cmp(&(&y.0, y.1 == Half::B)));
    let mut rest = rest.into_iter().peekable();
    while let Some((module, half, tensor)) = rest.next() {
        let partner = rest.next_if(|(other, ..)| *other == module).map(|(_, _, tensor)| tensor);
        let (Half::A, Some(b)) = (half, partner) else {
            let (is, lacks) = if half == Half::A { ("A", "B") } else { ("B", "A") };
            return Err(malformed(file, tensor, format_args!("is {is} of a pair whose {lacks} is missing")));
        };
        let a = tensor;
        file.check_readable(a)?;
        file.check_readable(b)?;
        for tensor in [a, b] {
            if tensor.shape.len() != 2 {
                return Err(malformed(file, tensor, format_args!("has the shape {:?}, which is no matrix", tensor.shape)));
            }
        }
        let rank = a.rows();
        if rank == 0 || rank > MOST_RANK {
            return Err(malformed(file, a, format_args!("is of rank {rank}; 1 to {MOST_RANK} are read")));
        }
        if b.columns() != rank {
            return Err(malformed(
                file,
                b,
                format_args!("has the shape {:?}, which should be [outputs, {rank}]: its A is of rank {rank}", b.shape),
            ));
        }
        let scale = scale(&module, rank)?;
        pairs.push(Pair { module, a: a.clone(), b: b.clone(), scale });
    }
    if pairs.is_empty() {
        return Err(Error::malformed(format!("{}: the adapter adapts nothing: it has no tensors", file.name())));
    }
    Ok(pairs)
}

fn malformed(file: &ModelFile, tensor: &TensorInfo, what: std::fmt::Arguments<'_>) -> Error {
    Error::malformed(format!("{}: tensor {} {what}", file.name(), quoted(&tensor.name)))
}
