//! Components made from WIT alone, whose functions trap: of the interface's shape, or of another.

use wit_component::{ComponentEncoder, StringEncoding, dummy_module, embed_component_metadata};
use wit_parser::{ManglingAndAbi, Resolve};

pub const WIT: &str = include_str!("../../wit/plugin.wit");

/// A component of this world.
pub fn component(wit: &str, world: &str) -> Vec<u8> {
    let mut resolve = Resolve::default();
    let package = resolve.push_source("test.wit", wit).expect("valid WIT");
    let world = resolve.select_world(&[package], Some(world)).expect("a world of that name");
    let mut module = dummy_module(&resolve, world, ManglingAndAbi::Standard32);
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).expect("it fits the world");
    encode(&module)
}

/// A channel plugin whose core module has these parts too.
#[allow(dead_code, reason = "this file serves two test binaries, and one of them needs no parts")]
pub fn with_parts(parts: &str) -> Vec<u8> {
    let mut resolve = Resolve::default();
    let package = resolve.push_source("plugin.wit", WIT).expect("valid WIT");
    let world = resolve.select_world(&[package], Some("channel-plugin")).expect("a world of that name");
    let text = format!(
        r#"(module
            (memory (export "memory") 1)
            (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) unreachable)
            (func (export "aiproxy:plugin/channel@0.1.0#configure")
                (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32) unreachable)
            (func (export "aiproxy:plugin/channel@0.1.0#decide") (param i32) (result i32) unreachable)
            {parts})"#
    );
    let mut module = wat::parse_str(text).expect("valid text");
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).expect("it fits the world");
    encode(&module)
}

fn encode(module: &[u8]) -> Vec<u8> {
    ComponentEncoder::default().validate(true).module(module).and_then(|mut it| it.encode()).expect("it can be encoded")
}
