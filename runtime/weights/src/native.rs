//! Files of the operating system.
//!
//! Reads are positional (`pread`, `seek_read`) and land straight in the caller's buffer. Files are not memory-mapped: a mapped
//! file that another process cuts short raises SIGBUS, which no library can turn into an error, and a loader that reads each
//! byte once gains nothing from the mapping.

use std::fs::{File, Metadata};
use std::path::{Path, PathBuf};

use crate::{ByteSource, LocalFuture, SourceError, check_range};

/// A file opened for reading.
pub struct FileSource {
    name: String,
    file: File,
    len: u64,
}

fn io_error(name: &str, error: &std::io::Error) -> SourceError {
    SourceError::Io { name: name.to_owned(), message: error.to_string() }
}

impl FileSource {
    /// Opens the file at `path`; messages call it by its file name, or by its whole path where it can't be opened.
    pub fn open(path: impl AsRef<Path>) -> Result<FileSource, SourceError> {
        let path = path.as_ref();
        let name = path.file_name().map_or_else(|| path.display().to_string(), |n| n.to_string_lossy().into_owned());
        FileSource::open_as(path, name)
    }

    /// Opens the file at `path` under a name of the caller's, such as one relative to a folder.
    pub fn open_as(path: impl AsRef<Path>, name: impl Into<String>) -> Result<FileSource, SourceError> {
        let path = path.as_ref();
        let shown = path.display().to_string();
        let regular = |metadata: std::io::Result<Metadata>| match metadata {
            Ok(metadata) if metadata.is_file() => Ok(metadata),
            Ok(_) => Err(SourceError::Io { name: shown.clone(), message: "not a regular file".into() }),
            Err(e) => Err(io_error(&shown, &e)),
        };
        // Looked at first: a pipe would be waited for as soon as it is opened.
        regular(std::fs::metadata(path))?;
        let file = File::open(path).map_err(|e| io_error(&shown, &e))?;
        let metadata = regular(file.metadata())?;
        Ok(FileSource { name: name.into(), file, len: metadata.len() })
    }

    #[cfg(unix)]
    fn read_exact_at(&self, offset: u64, out: &mut [u8]) -> std::io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(&self.file, out, offset)
    }

    #[cfg(windows)]
    fn read_exact_at(&self, mut offset: u64, mut out: &mut [u8]) -> std::io::Result<()> {
        while !out.is_empty() {
            match std::os::windows::fs::FileExt::seek_read(&self.file, out, offset)? {
                0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
                read => {
                    out = &mut out[read..];
                    offset += read as u64;
                }
            }
        }
        Ok(())
    }
}

impl ByteSource for FileSource {
    fn name(&self) -> &str {
        &self.name
    }

    fn len(&self) -> u64 {
        self.len
    }

    fn read<'a>(&'a self, offset: u64, out: &'a mut [u8]) -> LocalFuture<'a, Result<(), SourceError>> {
        Box::pin(async move {
            check_range(self, offset, out.len())?;
            self.read_exact_at(offset, out).map_err(|e| match e.kind() {
                std::io::ErrorKind::UnexpectedEof => {
                    SourceError::Io { name: self.name.clone(), message: "the file was cut short while it was being read".into() }
                }
                _ => io_error(&self.name, &e),
            })
        })
    }
}

/// The files beside safetensors that say what they mean, where a folder has them.
const COMPANIONS: [&str; 9] = [
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "chat_template.json",
    "model.safetensors.index.json",
    "modules.json",
    "1_Pooling/config.json",
];

/// Opens every file of the model at `path`, ready for the engine.
///
/// `path` is a GGUF file (of a split model, any part: `-00001-of-0000N`), a safetensors file, or a folder as Hugging Face lays
/// it out. A folder with no safetensors but with one GGUF model is that model.
pub fn open_model(path: impl AsRef<Path>) -> Result<Vec<Box<dyn ByteSource>>, SourceError> {
    let path = path.as_ref();
    let paths = model_files(path)?;
    let root = if path.is_dir() { path } else { path.parent().unwrap_or(Path::new("")) };
    let open = |path: PathBuf| -> Result<Box<dyn ByteSource>, SourceError> {
        let name = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().replace('\\', "/");
        Ok(Box::new(FileSource::open_as(&path, name)?))
    };
    paths.into_iter().map(open).collect()
}

/// Returns the files that make up the model at `path`, which [`open_model`] opens.
///
/// # Errors
/// A folder that can't be read, or that holds no model or several.
pub fn model_files(path: &Path) -> Result<Vec<PathBuf>, SourceError> {
    if path.is_dir() { folder(path) } else { Ok(parts(path)) }
}

/// What a PEFT folder keeps a LoRA adapter in.
const ADAPTER: [&str; 2] = ["adapter_config.json", "adapter_model.safetensors"];

/// Opens every file of the LoRA adapter at `path`: a GGUF file, a folder as PEFT writes it, or its `adapter_model.safetensors`.
///
/// # Errors
/// Where nothing can be opened; a folder that is no adapter's is named.
pub fn open_adapter(path: impl AsRef<Path>) -> Result<Vec<Box<dyn ByteSource>>, SourceError> {
    let path = path.as_ref();
    let weights = path.file_name().is_some_and(|name| name == ADAPTER[1]);
    let folder = if weights { path.parent().unwrap_or(Path::new("")) } else { path };
    if !weights && !path.is_dir() {
        return Ok(vec![Box::new(FileSource::open(path)?)]);
    }
    let mut sources: Vec<Box<dyn ByteSource>> = Vec::new();
    for name in ADAPTER.into_iter().filter(|name| folder.join(name).is_file()) {
        sources.push(Box::new(FileSource::open_as(folder.join(name), name)?));
    }
    if sources.is_empty() {
        let message = format!("this folder holds no {}; name a PEFT adapter's folder, or a GGUF file", ADAPTER.join(" and "));
        return Err(SourceError::Io { name: path.display().to_string(), message });
    }
    Ok(sources)
}

/// The files of a folder that make up a model.
fn folder(path: &Path) -> Result<Vec<PathBuf>, SourceError> {
    let shown = path.display().to_string();
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(|e| io_error(&shown, &e))? {
        files.push(entry.map_err(|e| io_error(&shown, &e))?.path());
    }
    files.sort();
    let with_extension =
        |extension: &str| -> Vec<PathBuf> { files.iter().filter(|f| f.extension().is_some_and(|e| e == extension)).cloned().collect() };
    let mut found = with_extension("safetensors");
    if !found.is_empty() {
        found.extend(COMPANIONS.iter().map(|name| path.join(name)).filter(|file| file.is_file()));
        return Ok(found);
    }
    let ggufs = with_extension("gguf");
    let refuse = |message: String| Err(SourceError::Io { name: shown.clone(), message });
    match ggufs.first() {
        None => refuse("this folder holds neither safetensors nor GGUF files".into()),
        Some(first) => {
            let model = parts(first);
            if ggufs.iter().any(|file| !model.contains(file)) {
                return refuse(format!("this folder holds {} GGUF files; name the one to load", ggufs.len()));
            }
            Ok(model)
        }
    }
}

/// Most parts of a split model that are looked for: a name can claim 99,999.
const MAX_PARTS: u32 = 1_000;

/// A part of a split model, by its name: `base-00001-of-00003.gguf` or `.safetensors`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SplitPart<'a> {
    /// What the names of all parts begin with.
    pub base: &'a str,
    /// The part's number, from 1.
    pub number: u32,
    /// The number of parts.
    pub count: u32,
}

/// Reads a file's name as that of a part of a split model. Returns `None` for a whole model.
pub fn split_part(name: &str) -> Option<SplitPart<'_>> {
    let stem = name.strip_suffix(".gguf").or_else(|| name.strip_suffix(".safetensors"))?;
    let (stem, count) = stem.rsplit_once("-of-")?;
    let (base, number) = stem.rsplit_once('-')?;
    let five = |digits: &str| (digits.len() == 5 && digits.bytes().all(|b| b.is_ascii_digit())).then(|| digits.parse().ok())?;
    let part = SplitPart { base, number: five(number)?, count: five(count)? };
    (1..=part.count).contains(&part.number).then_some(part)
}

/// All parts of the split GGUF model that `path` is a part of, or `path` alone.
fn parts(path: &Path) -> Vec<PathBuf> {
    let alone = vec![path.to_owned()];
    let Some(name) = path.file_name().and_then(|n| n.to_str()).filter(|name| name.ends_with(".gguf")) else { return alone };
    let Some(SplitPart { base, count, .. }) = split_part(name) else { return alone };
    // Only those that are there are opened, and the parts themselves say how many there must be.
    let all = (1..=count.min(MAX_PARTS)).map(|i| path.with_file_name(format!("{base}-{i:05}-of-{count:05}.gguf")));
    let there: Vec<PathBuf> = all.filter(|part| part.is_file()).collect();
    if there.is_empty() { alone } else { there }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder_with(files: &[&str]) -> PathBuf {
        static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let next = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("firecrest-weights-{}-{next}", std::process::id()));
        for file in files {
            let file = path.join(file);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(&file, file.to_str().unwrap()).unwrap();
        }
        path
    }

    fn names(path: &Path) -> Vec<String> {
        open_model(path).unwrap().iter().map(|s| s.name().to_owned()).collect()
    }

    #[test]
    fn any_part_names_the_whole_split_model() {
        let parts = ["m-00001-of-00003.gguf", "m-00002-of-00003.gguf", "m-00003-of-00003.gguf"];
        let folder = folder_with(&[&parts[..], &["other.gguf"]].concat());
        assert_eq!(names(&folder.join(parts[1])), parts);
        assert_eq!(names(&folder.join("other.gguf")), ["other.gguf"]);
        let error = open_model(&folder).err().unwrap().to_string();
        assert!(error.contains("4 GGUF files"), "{error}");
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_hugging_face_folder_gives_weights_and_companions() {
        let folder = folder_with(&["config.json", "model.safetensors", "README.md", "1_Pooling/config.json"]);
        assert_eq!(names(&folder), ["model.safetensors", "config.json", "1_Pooling/config.json"]);
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn reads_are_ranged_and_never_short() {
        let folder = folder_with(&["a"]);
        let source = FileSource::open(folder.join("a")).unwrap();
        let mut out = [0; 3];
        pollster::block_on(source.read(1, &mut out)).unwrap();
        let whole = folder.join("a").to_str().unwrap().to_owned();
        assert_eq!(out, whole.as_bytes()[1..4]);
        let past = pollster::block_on(source.read(source.len() - 2, &mut out)).unwrap_err();
        assert!(matches!(past, SourceError::OutOfRange { .. }), "{past}");
        assert!(pollster::block_on(source.read(u64::MAX, &mut out)).is_err());
        std::fs::File::options().write(true).open(folder.join("a")).unwrap().set_len(1).unwrap();
        let cut = pollster::block_on(source.read(1, &mut out)).unwrap_err().to_string();
        assert!(cut.contains("cut short"), "{cut}");
        std::fs::remove_dir_all(folder).unwrap();
    }
}
