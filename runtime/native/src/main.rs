//! The `firecrest` command.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    quiet_mesa();
    cli::run()
}

/// Mesa's layer that orders devices for the desktop asks Wayland which GPU drives the screen. Where there is no session it prints an
/// error on our standard error, once per look at the adapters. It is switched off there; who steers it (`MESA_VK_DEVICE_SELECT`) keeps it.
fn quiet_mesa() {
    if std::env::var_os("XDG_RUNTIME_DIR").is_none() && std::env::var_os("MESA_VK_DEVICE_SELECT").is_none() {
        // SAFETY: the first thing the program does; no other thread is there to read the environment.
        unsafe { std::env::set_var("NODEVICE_SELECT", "1") };
    }
}
