//! Files that commands write.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use firecrest::engine::{Error, ErrorCode};

use super::Outcome;

/// Writes a file as a shell's `>` would: through a symbolic link, into a device or a pipe, with the permissions that the umask leaves.
///
/// # Errors
/// A path that is one of `inputs` under any name, which would be destroyed while it is read; a path that can't be written.
pub(crate) fn write(path: &Path, inputs: &[PathBuf], bytes: &[u8]) -> Outcome {
    refuse_inputs(path, inputs)?;
    let said = |e: std::io::Error| Error::new(ErrorCode::Source, format!("{}: {e}; choose a place that can be written", path.display()));
    let mut file = File::create(path).map_err(said)?;
    file.write_all(bytes).map_err(said)?;
    Ok(file.flush().map_err(said)?)
}

/// Refuses to write over what a command reads.
///
/// # Errors
/// `path` is one of `inputs`, or lies in a folder that is.
pub(crate) fn refuse_inputs(path: &Path, inputs: &[PathBuf]) -> Outcome {
    let Ok(real) = path.canonicalize() else { return Ok(()) };
    let clash = inputs.iter().find(|input| input.canonicalize().is_ok_and(|input| same(&real, &input)));
    match clash {
        Some(input) => {
            let why = format!("{}: this is {}, which the command reads; choose another file", path.display(), input.display());
            Err(Error::request(why).into())
        }
        None => Ok(()),
    }
}

#[cfg(unix)]
fn same(output: &Path, input: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    // A hard link is the same file under another name.
    let inode = |path: &Path| path.metadata().ok().filter(|m| m.is_file()).map(|m| (m.dev(), m.ino()));
    output == input || input.is_dir() && output.starts_with(input) || inode(output).is_some_and(|found| inode(input) == Some(found))
}

#[cfg(not(unix))]
fn same(output: &Path, input: &Path) -> bool {
    output == input || input.is_dir() && output.starts_with(input)
}
