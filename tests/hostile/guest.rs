//! Makes components of `guest.wat`, with a piece of WebAssembly in one of its places.

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// Where a piece goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Beside the functions: memories, tables, data, a start function.
    Parts,
    Configure,
    /// Before the answer.
    Decide,
    /// While the host writes the arguments.
    Realloc,
    /// After the host has read the answer.
    After,
}

/// The guest with this piece in this place, and nothing in the others.
pub fn guest(place: Place, piece: &str) -> Vec<u8> {
    let mut text = include_str!("guest.wat").to_owned();
    for (name, marked) in [
        ("{parts}", Place::Parts),
        ("{configure}", Place::Configure),
        ("{decide}", Place::Decide),
        ("{realloc}", Place::Realloc),
        ("{after}", Place::After),
    ] {
        text = text.replace(name, if marked == place { piece } else { "" });
    }
    component(&text)
}

/// A core module's text as a component of the world in `wasi.wit`.
fn component(text: &str) -> Vec<u8> {
    let mut module = wat::parse_str(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    let mut resolve = Resolve::default();
    resolve.push_source("plugin.wit", include_str!("../../wit/plugin.wit")).expect("the interface is sound");
    let package = resolve.push_source("wasi.wit", include_str!("wasi.wit")).expect("the pieces of WASI are sound");
    let world = resolve.select_world(&[package], Some("hostile")).expect("there is such a world");
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).expect("a world can be described");
    let encoder = ComponentEncoder::default().validate(true).module(&module);
    encoder.and_then(|mut encoder| encoder.encode()).unwrap_or_else(|error| panic!("{error:#}\n{text}"))
}
