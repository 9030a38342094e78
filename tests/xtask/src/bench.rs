//! `cargo xtask bench`: measured beside a peer in one run, as ratios. Machines are noisy; figures are the best of several turns.

use clap::Subcommand;

use crate::process::{cargo, command, run};
use crate::setup;

/// What to measure.
#[derive(Subcommand)]
pub(crate) enum Bench {
    /// Firecrest and llama.cpp on the same GGUFs, turn about: prefill, decode, several sequences, peak memory.
    Peers {
        /// Thread counts.
        #[arg(long, default_value = "1,2")]
        threads: String,
        /// Formats.
        #[arg(long, default_value = "q4_0,q8_0,q4_k")]
        formats: String,
        /// Sequences at once.
        #[arg(long, default_value = "1,8")]
        sequences: String,
        /// Turns of each; the best counts.
        #[arg(long, default_value_t = 3)]
        turns: u32,
        /// Also firecrest on every GPU adapter, software ones included.
        #[arg(long)]
        adapters: bool,
        /// Write the table as Markdown here too.
        #[arg(long)]
        output: Option<String>,
    },
    /// The CPU kernels alone, per format and instruction set.
    Kernels,
}

/// Runs a bench. Whether it came to its end.
pub(crate) fn run_bench(what: &Bench) -> Result<bool, String> {
    match what {
        Bench::Kernels => run(&mut cargo(&["run", "--release", "-p", "firecrest-tests", "--bin", "cpu-kernels"])),
        Bench::Peers { threads, formats, sequences, turns, adapters, output } => {
            let missing = setup::report(true)?;
            let Some(python) = setup::oracle_python() else {
                return Err(format!("the peer could not be installed: {}", missing.join("; ")));
            };
            if !run(&mut cargo(&["build", "--release", "-p", "firecrest"]))? {
                return Ok(false);
            }
            let turns = turns.to_string();
            let mut arguments =
                vec!["tests/benches/peers.py", "--threads", threads, "--formats", formats, "--sequences", sequences, "--turns", &turns];
            if *adapters {
                arguments.push("--adapters");
            }
            if let Some(path) = output {
                arguments.extend(["--output", path]);
            }
            run(&mut command(python, &arguments))
        }
    }
}
