//! The templates that `plugin new` writes, inside the binary; `host/build.rs` lists them from `plugins/`.

/// A file of a template.
pub struct File {
    /// Below the template's folder.
    pub path: &'static str,
    pub is_executable: bool,
    pub bytes: &'static [u8],
}

include!(concat!(env!("OUT_DIR"), "/templates.rs"));
