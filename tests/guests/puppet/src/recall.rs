//! What an instance still knows: words that it was told to keep, and whatever stands in its memory.
#![allow(unsafe_code, reason = "the guest reads its own memory, wherever that is")]

use std::cell::RefCell;

use serde_json::Value;

thread_local! {
    static WORDS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// What disguises a text that is searched for: every byte of it, from the last to the first, by an exclusive or. So the
/// search does not find what it was told to search for.
const MASK: u8 = 0x55;

pub fn remember(word: &str) {
    WORDS.with_borrow_mut(|words| words.push(word.to_owned()));
}

/// All words, separated by commas.
pub fn remembered() -> String {
    WORDS.with_borrow(|words| words.join(","))
}

/// Which of these disguised texts (lists of numbers) stand in this instance's memory, by index, separated by commas.
pub fn found(disguised: &Value) -> String {
    let needles: Vec<Vec<u8>> = serde_json::from_value(disguised.clone()).unwrap_or_default();
    let is_found = |needle: &Vec<u8>| memory().any(|at| stands_at(at, needle));
    let found = needles.iter().enumerate().filter(|(_, needle)| is_found(needle));
    found.map(|(index, _)| index.to_string()).collect::<Vec<_>>().join(",")
}

fn stands_at(at: usize, disguised: &[u8]) -> bool {
    at + disguised.len() <= memory_end()
        && disguised.iter().rev().enumerate().all(|(offset, byte)| read(at + offset) == byte ^ MASK)
}

/// Addresses, but for the null pointer.
fn memory() -> impl Iterator<Item = usize> {
    1..memory_end()
}

#[cfg(target_arch = "wasm32")]
fn memory_end() -> usize {
    core::arch::wasm32::memory_size(0) << 16
}

#[cfg(not(target_arch = "wasm32"))]
fn memory_end() -> usize {
    0
}

fn read(at: usize) -> u8 {
    // SAFETY: below the memory's end every address can be read, and nobody else runs.
    unsafe { std::ptr::with_exposed_provenance::<u8>(at).read_volatile() }
}
