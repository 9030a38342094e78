//! Models of the Hugging Face hub: their names, and which files of a repository make a model.
//!
//! [`HubName::select`] decides both for `firecrest pull`, among the files of a repository, and for opening, among the files that were pulled. So a
//! name that was pulled opens.

mod cache;

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use firecrest_engine::error::{Error, ErrorCode, Result};
use firecrest_weights::native::split_part;

pub use cache::{Cache, Lock, home, is_plain, is_safe};

/// The files beside safetensors that the loader reads.
const COMPANIONS: [&str; 9] = [
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "generation_config.json",
    "chat_template.jinja",
    "chat_template.json",
    "model.safetensors.index.json",
    "modules.json",
    "1_Pooling/config.json",
];

/// Most files of a snapshot that are looked at, and how deep its folders are searched.
const MAX_FILES: usize = 10_000;
const MAX_DEPTH: usize = 8;

/// What a name asks of its repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// The model that the repository holds, if it holds one.
    Model,
    /// The GGUF model whose file names this quantisation, such as `Q4_K_M`.
    Quant(String),
    /// One file, or all parts of the split model that the file is a part of.
    File(String),
}

/// `hf:owner/repo`, `hf:owner/repo:QUANT` or `hf:owner/repo/path/file.gguf`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubName {
    /// `owner/repo`.
    pub repository: String,
    /// What of it.
    pub choice: Choice,
}

impl fmt::Display for HubName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.choice {
            Choice::Model => write!(f, "hf:{}", self.repository),
            Choice::Quant(quant) => write!(f, "hf:{}:{quant}", self.repository),
            Choice::File(file) => write!(f, "hf:{}/{file}", self.repository),
        }
    }
}

impl FromStr for HubName {
    type Err = Error;

    fn from_str(name: &str) -> Result<HubName> {
        let wrong = || {
            let forms = "write hf:owner/repo, hf:owner/repo:QUANT (for example hf:owner/repo-GGUF:Q4_K_M) or hf:owner/repo/file.gguf";
            Error::request(format!("`{}`: {forms}", name.chars().take(200).collect::<String>()))
        };
        let plain = |part: &str| {
            let known = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
            !part.is_empty() && part.len() <= 96 && part.bytes().all(known) && !part.starts_with('.')
        };
        let mut parts = name.strip_prefix("hf:").ok_or_else(wrong)?.splitn(3, '/');
        let (Some(owner), Some(repository)) = (parts.next(), parts.next()) else { return Err(wrong()) };
        let (repository, quant) = match repository.split_once(':') {
            Some((repository, quant)) => (repository, Some(quant)),
            None => (repository, None),
        };
        let choice = match (quant, parts.next()) {
            (None, None) => Choice::Model,
            (Some(quant), None) if plain(quant) => Choice::Quant(quant.to_owned()),
            (None, Some(file)) if is_safe(file) => Choice::File(file.to_owned()),
            _ => return Err(wrong()),
        };
        if !plain(owner) || !plain(repository) {
            return Err(wrong());
        }
        Ok(HubName { repository: format!("{owner}/{repository}"), choice })
    }
}

/// A GGUF model of a repository: one file, or all parts of a split one in order.
struct Gguf {
    /// The file's name, or the name that its parts share.
    base: String,
    files: Vec<String>,
    /// Parts that must be there.
    count: usize,
}

/// Gathers GGUF files into models, by name.
fn ggufs(names: &[String]) -> Vec<Gguf> {
    let mut files: Vec<&String> = names.iter().filter(|name| name.ends_with(".gguf")).collect();
    files.sort();
    let mut models: Vec<Gguf> = Vec::new();
    for file in files {
        let (base, count) = match split_part(file) {
            Some(part) => (part.base.to_owned(), part.count as usize),
            None => (file.clone(), 1),
        };
        match models.iter_mut().find(|model| model.base == base && model.count == count) {
            Some(model) => model.files.push(file.clone()),
            None => models.push(Gguf { base, files: vec![file.clone()], count }),
        }
    }
    models
}

/// Returns whether a file's name says this quantisation, as a word of its own: `Q4_K` is not in `m-Q4_K_M.gguf`, nor `Q4_0` in `m-IQ4_0.gguf`.
fn names_quant(file: &str, quant: &str) -> bool {
    let (file, quant) = (file.to_ascii_uppercase(), quant.to_ascii_uppercase());
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    file.match_indices(&quant).any(|(at, _)| {
        let before = file[..at].chars().next_back();
        let after = file[at + quant.len()..].chars().next();
        !before.is_some_and(|c| c.is_ascii_alphanumeric()) && !after.is_some_and(word)
    })
}

impl HubName {
    /// Returns the files that make the model, among those of its repository or those that were pulled; the one to open comes first, if files are opened by name.
    ///
    /// # Errors
    /// No model, several models, or a model of which files are missing; the message lists what there is.
    pub fn select(&self, names: &[String]) -> Result<Vec<String>> {
        let names: Vec<String> = names.iter().filter(|name| is_safe(name)).cloned().collect();
        let models = ggufs(&names);
        match &self.choice {
            Choice::File(file) => match models.iter().find(|model| model.files.contains(file)) {
                Some(model) => self.whole(model),
                None if names.contains(file) => Ok(vec![file.clone()]),
                None => Err(self.absent(&format!("has no file {file}"), &models)),
            },
            Choice::Quant(quant) => {
                let named: Vec<&Gguf> = models.iter().filter(|m| !is_projector(&m.base) && names_quant(&m.base, quant)).collect();
                match named[..] {
                    [model] => self.whole(model),
                    [] => Err(self.absent(&format!("has no GGUF file named after {quant}"), &models)),
                    _ => Err(self.several(&named)),
                }
            }
            Choice::Model => {
                let folder = self.folder(&names)?;
                if !folder.is_empty() {
                    return Ok(folder);
                }
                let models: Vec<&Gguf> = models.iter().filter(|model| !is_projector(&model.base)).collect();
                match models[..] {
                    [model] => self.whole(model),
                    [] => Err(Error::unsupported(format!("{self} has neither .safetensors nor .gguf files; Firecrest reads these two"))),
                    _ => Err(self.several(&models)),
                }
            }
        }
    }

    /// The safetensors at the top of a repository with what belongs to them; empty if there are none.
    fn folder(&self, names: &[String]) -> Result<Vec<String>> {
        let mut weights: Vec<String> = names.iter().filter(|n| !n.contains('/') && n.ends_with(".safetensors")).cloned().collect();
        // Some repositories hold the same weights again in another layout.
        if weights.iter().any(|name| name.starts_with("model")) {
            weights.retain(|name| name.starts_with("model"));
        }
        weights.sort();
        for name in &weights {
            let Some(part) = split_part(name) else { continue };
            let there = weights.iter().filter_map(|name| split_part(name)).filter(|p| (p.base, p.count) == (part.base, part.count)).count();
            if there != part.count as usize {
                return Err(self.incomplete(part.base, there, part.count as usize));
            }
        }
        if weights.is_empty() {
            return Ok(weights);
        }
        if !names.iter().any(|name| name == "config.json") {
            return Err(Error::unsupported(format!("{self} has safetensors but no config.json, so its architecture is unknown")));
        }
        let mut files: Vec<String> = COMPANIONS.iter().filter(|f| names.iter().any(|n| n == *f)).map(|f| (*f).to_owned()).collect();
        files.extend(weights);
        Ok(files)
    }

    fn whole(&self, model: &Gguf) -> Result<Vec<String>> {
        if model.files.len() != model.count {
            return Err(self.incomplete(&model.base, model.files.len(), model.count));
        }
        Ok(model.files.clone())
    }

    fn incomplete(&self, base: &str, there: usize, count: usize) -> Error {
        let why = format!("{self}: {there} of the {count} parts of {base} are there; all parts are needed: run `firecrest pull {self}`");
        Error::new(ErrorCode::Source, why)
    }

    fn absent(&self, what: &str, models: &[Gguf]) -> Error {
        let listed: Vec<&str> = models.iter().map(|model| model.files[0].as_str()).collect();
        let there = match &listed[..] {
            [] => "it has no GGUF files".to_owned(),
            listed => format!("it has:\n  {}", shown(listed)),
        };
        Error::new(ErrorCode::Source, format!("hf:{} {what}; {there}", self.repository))
    }

    fn several(&self, models: &[&Gguf]) -> Error {
        let files: Vec<&str> = models.iter().map(|model| model.files[0].as_str()).collect();
        Error::request(format!(
            "{self} has several models; name one, for example hf:{}/{}:\n  {}",
            self.repository,
            files[0],
            shown(&files)
        ))
    }

    /// Returns where the pulled model lies: a folder of safetensors, or a GGUF file.
    ///
    /// # Errors
    /// What was not pulled, or not whole.
    pub fn pulled(&self) -> Result<PathBuf> {
        let absent = || Error::new(ErrorCode::Source, format!("{self} has not been pulled yet: run `firecrest pull {self}`"));
        let cache = Cache::new(&self.repository)?;
        let snapshot = cache.snapshot(&cache.commit().ok_or_else(absent)?)?;
        let mut names = Vec::new();
        list(&snapshot, "", 0, &mut names);
        names.retain(|name| cache.holds(&snapshot.join(name)));
        if names.is_empty() || matches!(&self.choice, Choice::File(file) if !names.contains(file)) {
            return Err(absent());
        }
        let files = self.select(&names)?;
        let first = files.first().filter(|file| file.ends_with(".gguf") || matches!(self.choice, Choice::File(_)));
        Ok(first.map_or_else(|| snapshot.clone(), |file| snapshot.join(file)))
    }
}

/// Projectors of vision models: no language model.
fn is_projector(base: &str) -> bool {
    base.rsplit('/').next().is_some_and(|name| name.to_ascii_lowercase().contains("mmproj"))
}

/// At most twenty names, one a line.
fn shown(names: &[&str]) -> String {
    let more = names.len().saturating_sub(20);
    let mut text = names[..names.len() - more].join("\n  ");
    if more > 0 {
        text += &format!("\n  and {more} more");
    }
    text
}

/// Lists the files of a folder and the folders in it, names relative to the first one.
fn list(folder: &Path, prefix: &str, depth: usize, names: &mut Vec<String>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        let path = entry.path();
        if names.len() >= MAX_FILES {
            return;
        }
        if path.is_file() {
            names.push(name);
        } else if depth < MAX_DEPTH && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            list(&path, &format!("{name}/"), depth + 1, names);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn select(name: &str, files: &[&str]) -> Result<Vec<String>, String> {
        let files: Vec<String> = files.iter().map(|file| (*file).to_owned()).collect();
        let name: HubName = name.parse().map_err(|e: Error| e.message().to_owned())?;
        name.select(&files).map_err(|e| e.message().to_owned())
    }

    #[test]
    fn names_are_read_or_refused_with_the_forms() {
        for name in ["hf:o/r", "hf:o/r:Q4_K_M", "hf:o/r/m.gguf", "hf:o/r/Q4/m.gguf"] {
            assert_eq!(name.parse::<HubName>().expect(name).to_string(), name);
        }
        let deep = format!("hf:{}/r", "o".repeat(97));
        for name in [
            "o/r",
            "hf:",
            "hf:o",
            "hf:o/",
            "hf:/r",
            "hf:o/r:",
            "hf:o/r/",
            "hf:o/r/../../x",
            "hf:o/r//x",
            "hf:../r",
            "hf:o/..",
            "hf:o/r:Q4/m.gguf",
            "hf:o/r/a\\b",
            "hf:o /r",
            &deep,
        ] {
            let error = name.parse::<HubName>().map(|n| n.to_string()).expect_err(name);
            assert!(error.message().contains("write hf:owner/repo"), "{error}");
        }
    }

    #[test]
    fn a_folder_brings_what_the_loader_reads() {
        let files =
            ["README.md", "1_Pooling/config.json", "modules.json", "config.json", "model.safetensors", "onnx/model.onnx", "tokenizer.json"];
        let expected = ["config.json", "tokenizer.json", "modules.json", "1_Pooling/config.json", "model.safetensors"];
        assert_eq!(select("hf:o/r", &files).unwrap(), expected);
        let files = ["config.json", "consolidated.safetensors", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
        assert_eq!(select("hf:o/r", &files).unwrap(), ["config.json", files[2], files[3]]);
        assert!(select("hf:o/r", &files[..3]).unwrap_err().contains("1 of the 2 parts"));
        assert!(select("hf:o/r", &["model.safetensors"]).unwrap_err().contains("no config.json"));
    }

    #[test]
    fn a_quant_is_a_word_of_a_file_name() {
        let files = [
            "m-Q4_K_M.gguf",
            "m-Q4_K_S.gguf",
            "m.IQ4_NL.gguf",
            "mmproj-Q4_K_M.gguf",
            "big/m_q8_0-00001-of-00002.gguf",
            "big/m_q8_0-00002-of-00002.gguf",
        ];
        assert_eq!(select("hf:o/r:q4_k_m", &files).unwrap(), [files[0]]);
        assert_eq!(select("hf:o/r:Q8_0", &files).unwrap(), files[4..]);
        for absent in ["Q4_K", "Q4_NL", "4", "Q5_0"] {
            assert!(select(&format!("hf:o/r:{absent}"), &files).unwrap_err().contains("no GGUF file named after"), "{absent}");
        }
        assert!(select("hf:o/r", &files).unwrap_err().contains("several models"));
    }

    #[test]
    fn parts_come_together_and_nested_files_count() {
        let parts = ["Q4/m-00001-of-00003.gguf", "Q4/m-00002-of-00003.gguf", "Q4/m-00003-of-00003.gguf"];
        for name in ["hf:o/r", "hf:o/r/Q4/m-00002-of-00003.gguf"] {
            assert_eq!(select(name, &parts).unwrap(), parts);
            assert!(select(name, &parts[1..]).unwrap_err().contains("2 of the 3 parts"));
        }
        assert_eq!(select("hf:o/r", &["Q4/m.gguf", "../../.bashrc.gguf"]).unwrap(), ["Q4/m.gguf"]);
        assert!(select("hf:o/r/x.gguf", &["m.gguf"]).unwrap_err().contains("has no file x.gguf; it has:\n  m.gguf"));
        assert!(select("hf:o/r", &["README.md"]).unwrap_err().contains("neither .safetensors nor .gguf"));
    }
}
