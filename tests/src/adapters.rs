//! The software GPUs that suites run on: lavapipe (subgroups of 8, f16) and SwiftShader (subgroups of 4, no f16), two very
//! different profiles.

use std::sync::{Mutex, Once, PoisonError};

use firecrest_engine::backend::Backend;
use firecrest_engine::backend::gpu::{self, AdapterReport, GpuBackend, GpuOptions, Without};

/// Drivers to look for, by where Debian's packages put them.
const DRIVERS: [(&str, &str); 2] =
    [("llvmpipe", "/usr/share/vulkan/icd.d/lvp_icd.x86_64.json"), ("swiftshader", "/usr/lib/chromium/vk_swiftshader_icd.json")];

/// Points the Vulkan loader at the software drivers, unless the environment names drivers already.
fn use_software_drivers() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        if std::env::var_os("VK_ICD_FILENAMES").is_none() && std::env::var_os("VK_DRIVER_FILES").is_none() {
            let found: Vec<&str> = DRIVERS.iter().map(|(_, file)| *file).filter(|file| std::path::Path::new(file).is_file()).collect();
            // SAFETY: Rust code reads the environment under std's lock. C code that reads it without is the Vulkan loader's, which
            // starts only behind this call: whoever makes an instance comes through here first, and waits for it.
            unsafe { std::env::set_var("VK_ICD_FILENAMES", found.join(":")) };
        }
        if std::env::var_os("XDG_RUNTIME_DIR").is_none() {
            // Mesa's layer that orders devices for a desktop prints an error, once per look, where there is none.
            // SAFETY: as above.
            unsafe { std::env::set_var("NODEVICE_SELECT", "1") };
        }
    });
}

/// Every adapter there is, after [`use_software_drivers`].
pub fn reports() -> Vec<AdapterReport> {
    use_software_drivers();
    pollster::block_on(gpu::adapters())
}

/// Substrings that name the software adapters found; the others are skipped loudly.
pub fn software(what: &str) -> Vec<&'static str> {
    let reports = reports();
    let mut found = Vec::new();
    for (name, _) in DRIVERS {
        if reports.iter().any(|report| report.name.to_lowercase().contains(name)) {
            found.push(name);
        } else {
            crate::skip(what, &format!("no adapter is called {name}: install mesa-vulkan-drivers and chromium (cargo xtask setup)"));
        }
    }
    found
}

/// As [`software`], outside the full run without SwiftShader, which takes ten times lavapipe's time to compile a kernel.
pub fn quick_software(what: &str) -> Vec<&'static str> {
    let mut found = software(what);
    if !crate::full() {
        println!("{what}: SwiftShader is left to `cargo xtask test --full`");
        found.retain(|name| *name != "swiftshader");
    }
    found
}

/// A backend on the adapter of this name, kept off some rungs.
///
/// # Panics
/// Where the adapter refuses.
pub fn open(adapter: &str, without: Without) -> GpuBackend {
    use_software_drivers();
    let options = GpuOptions { adapter: Some(adapter.to_owned()), without, ..GpuOptions::default() };
    pollster::block_on(GpuBackend::new(options)).unwrap_or_else(|error| panic!("{adapter}: {error}"))
}

/// Backends not in use, kept so that kernels are compiled and checked once: software drivers take seconds for it.
static IDLE: Mutex<Vec<(String, Without, GpuBackend)>> = Mutex::new(Vec::new());

/// Runs `test` on an empty backend of this adapter: a used one that was unloaded, or a new one.
///
/// # Panics
/// Where the adapter refuses.
pub fn with_backend<T>(adapter: &str, without: Without, test: impl FnOnce(&mut Backend) -> T) -> T {
    let mut backend = take(adapter, without);
    let result = test(&mut backend);
    // A test that failed has panicked by now, and its backend is gone with it.
    give_back(adapter, without, backend);
    result
}

/// An empty backend of this adapter: a used one that was given back, or a new one.
///
/// # Panics
/// Where the adapter refuses.
pub fn take(adapter: &str, without: Without) -> Backend {
    let kept = {
        let mut idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner);
        let at = idle.iter().position(|(name, kept_off, _)| name == adapter && *kept_off == without);
        at.map(|at| idle.swap_remove(at).2)
    };
    Backend::Gpu(kept.unwrap_or_else(|| open(adapter, without)))
}

/// Keeps what [`take`] gave, without its model.
pub fn give_back(adapter: &str, without: Without, backend: Backend) {
    if let Backend::Gpu(mut used) = backend {
        used.unload();
        IDLE.lock().unwrap_or_else(PoisonError::into_inner).push((adapter.to_owned(), without, used));
    }
}
