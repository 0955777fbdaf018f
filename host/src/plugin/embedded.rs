//! The default plugins (channels' in `EMBEDDED`, and the `ROUTERS`), as components inside the binary; `host/build.rs` builds them from `plugins/`.
//!
//! A file of the same name in the plugins folder takes an embedded one's place: that is decided where plugins are
//! loaded, not here.

include!(concat!(env!("OUT_DIR"), "/embedded.rs"));

#[cfg(test)]
mod tests {
    use super::{EMBEDDED, ROUTERS};

    #[test]
    fn every_default_plugin_is_a_component() {
        let names: Vec<&str> = EMBEDDED.iter().chain(ROUTERS).map(|(name, _)| *name).collect();
        assert_eq!(names, ["bailian", "gemini", "openai", "least-busy", "spread"]);
        for (name, bytes) in EMBEDDED.iter().chain(ROUTERS) {
            // The magic number, then a component's version and layer; a core module's would be 01 00 00 00.
            assert_eq!(bytes[..8], *b"\0asm\x0d\x00\x01\x00", "{name}");
        }
    }
}
