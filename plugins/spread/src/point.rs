//! Points on the line from 0 to 100: stable ones of callers, and well spread ones of nobody.

use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};

/// Two to the power of 64, divided by the golden ratio: multiples of it fill the line more evenly than chance does.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// The point of a caller: FNV-1a over the salt, a zero byte and the id, mixed, as a part of 100.
///
/// The same in every instance, process and version of this router: changing it would lead callers elsewhere.
pub fn of(salt: &str, caller: &str) -> f64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in salt.bytes().chain([0]).chain(caller.bytes()) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    // FNV leaves ids that differ only at their end close to each other; this is splitmix64's last step.
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    on_line(hash ^ (hash >> 31))
}

/// One point after the other, so that the parts are met after few requests already. It begins anywhere, or every
/// instance's first requests would go to the same channel.
#[derive(Debug)]
pub struct Sequence(Cell<u64>);

impl Default for Sequence {
    fn default() -> Self {
        Self(Cell::new(RandomState::new().hash_one(0)))
    }
}

impl Sequence {
    pub fn next(&self) -> f64 {
        self.0.set(self.0.get().wrapping_add(GOLDEN));
        on_line(self.0.get())
    }
}

/// From 0 up to, and not, 100.
fn on_line(hash: u64) -> f64 {
    (hash >> 11) as f64 / (1_u64 << 53) as f64 * 100.0
}
