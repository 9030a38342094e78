//! Versions of this API.

use crate::ask::Version;
use crate::error::{ApiError, ErrorKind};

impl Version {
    /// Every version.
    pub const ALL: [Version; 2] = [Version::June2023, Version::October2026];

    /// What `anthropic-version` says. Nothing is the older one: who calls by hand often sends none.
    ///
    /// # Errors
    /// `invalid_request_error` for a version that is not one.
    pub fn from_header(value: Option<&str>) -> Result<Version, ApiError> {
        let Some(value) = value.map(str::trim) else { return Ok(Version::June2023) };
        Version::ALL.into_iter().find(|version| version.name() == value).ok_or_else(|| {
            let shown: String = value.chars().take(32).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
            let [old, new] = Version::ALL.map(Version::name);
            let message = format!("anthropic-version: `{shown}` is not a valid version; send `{new}`, or `{old}` for the older form");
            ApiError::new(ErrorKind::InvalidRequest, message)
        })
    }
}
