//! What the first eight bytes of a file tell, before a compiler sees it.

use serde::Serialize;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    Component,
    CoreModule,
    /// Shorter than a component can be. That one was cut off further on shows when it is compiled.
    CutOff,
    Empty,
    UnknownVersion,
    NotWasm,
}

impl Kind {
    pub fn of(bytes: &[u8]) -> Self {
        match bytes {
            [] => Self::Empty,
            [b'\0', b'a', b's', b'm', 0x0d, 0, 1, 0] => Self::CutOff,
            [b'\0', b'a', b's', b'm', 0x0d, 0, 1, 0, ..] => Self::Component,
            [b'\0', b'a', b's', b'm', 1, 0, 0, 0, ..] => Self::CoreModule,
            [b'\0', b'a', b's', b'm', _, _, _, _, ..] => Self::UnknownVersion,
            [b'\0', ..] if b"\0asm".starts_with(bytes) || bytes.starts_with(b"\0asm") => Self::CutOff,
            _ => Self::NotWasm,
        }
    }

    /// Why no plugin can be in such a file; none for a component.
    pub fn fault(self, bytes: &[u8]) -> Option<&'static str> {
        match self {
            Self::Component => None,
            Self::Empty => Some("the file is empty"),
            Self::CutOff if bytes.len() == 8 => {
                Some("the file ends after its 8-byte header: it was cut off, or is being written")
            }
            Self::CutOff => Some("the file ends within its 8-byte header: it was cut off, or is being written"),
            Self::CoreModule => Some(
                "this is a core WebAssembly module, not a component: build it for the target wasm32-wasip2, \
                 or wrap it with `wasm-tools component new`",
            ),
            Self::UnknownVersion => Some("the WebAssembly in this file has an unknown binary version"),
            Self::NotWasm => Some("this is not a WebAssembly file: it does not begin with \"\\0asm\""),
        }
    }
}
