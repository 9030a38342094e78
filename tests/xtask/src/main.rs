//! `cargo xtask`: the project's own commands. `setup` installs what tests need, `test` runs them, `lint` checks the code,
//! `bench` measures beside peers.

mod bench;
mod lint;
mod process;
mod setup;
mod test;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The project's own commands.
#[derive(Parser)]
#[command(
    name = "cargo xtask",
    after_help = "Examples:\n  cargo xtask test\n  cargo xtask test --full\n  cargo xtask bench peers --threads 1,2"
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Install what tests need: the wasm target, npm packages, wasm-bindgen and, as root on Debian, chromium and Vulkan drivers.
    Setup {
        /// Also the Python oracles (llama.cpp, about 8 minutes to compile).
        #[arg(long)]
        oracles: bool,
    },
    /// Run every suite; what could not run is listed at the end.
    Test {
        /// The slow sweeps too: whole models against llama.cpp, 10^6 fuzz executions, 10^5 tokeniser strings a name.
        #[arg(long)]
        full: bool,
        /// Only suites whose name contains this.
        #[arg(long)]
        only: Option<String>,
    },
    /// fmt, clippy on native and wasm32, deny, docs, layer rules.
    Lint,
    /// Measure: `peers` beside llama.cpp on the same files, `kernels` the CPU kernels alone.
    Bench {
        #[command(subcommand)]
        what: bench::Bench,
    },
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Setup { oracles } => setup::report(oracles).map(|missing| missing.is_empty()),
        Command::Test { full, only } => test::run_suites(full, only.as_deref()),
        Command::Lint => lint::run_checks(),
        Command::Bench { what } => bench::run_bench(&what),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(message) => {
            eprintln!("xtask: {message}");
            ExitCode::FAILURE
        }
    }
}
