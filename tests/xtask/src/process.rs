//! Running other programs: where from, how, and what to say when they fail.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The root of the checkout.
pub(crate) fn repository() -> PathBuf {
    // This crate stands two folders below the root.
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).map(Path::to_path_buf).unwrap_or_default()
}

/// A command in the root of the checkout.
pub(crate) fn command(program: impl AsRef<std::ffi::OsStr>, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.current_dir(repository()).args(arguments).stdin(Stdio::null());
    command
}

/// This cargo, in the root of the checkout.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let mut cargo = command(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()), arguments);
    // What the cargo that runs us says of this crate. Build scripts that look at such variables (ring's) would run again each time that somebody changes
    // between `cargo xtask` and `cargo`, and all that stands on them be compiled again.
    let of_ours = |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(of_ours)) {
        cargo.env_remove(name);
    }
    cargo
}

/// Runs to the end, output passed through. Whether it succeeded; an error where it could not be started.
pub(crate) fn run(command: &mut Command) -> Result<bool, String> {
    let shown = format!("{command:?}").replace('"', "");
    println!("\n$ {shown}");
    command.status().map(|s| s.success()).map_err(|e| format!("could not start `{shown}`: {e}"))
}

/// Standard output of a command that succeeded, or nothing.
pub(crate) fn output(command: &mut Command) -> Option<String> {
    let output = command.stderr(Stdio::null()).output().ok().filter(|o| o.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Whether a program of this name is on the path.
pub(crate) fn on_path(program: &str) -> bool {
    std::env::var_os("PATH").is_some_and(|paths| std::env::split_paths(&paths).any(|p| p.join(program).is_file()))
}
