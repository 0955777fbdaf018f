//! How much each signal weighs, and how often the router looks around.

use serde::Deserialize;

/// The settings, as the README lists them.
#[derive(Debug, Deserialize)]
#[serde(default)]
pub struct Settings {
    pub in_flight: Weight,
    pub latency: Weight,
    pub errors: Weight,
    /// Of so many requests one goes to a channel because it is its turn; 0: none.
    pub look_around_every: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self { in_flight: Weight(1.0), latency: Weight(1.0), errors: Weight(10.0), look_around_every: 50 }
    }
}

/// What a signal counts for; 0: nothing.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "f64")]
pub struct Weight(pub f64);

impl TryFrom<f64> for Weight {
    type Error = &'static str;

    fn try_from(weight: f64) -> Result<Self, Self::Error> {
        if (0.0..=1e6).contains(&weight) { Ok(Self(weight)) } else { Err("expected a number from 0 to 1000000") }
    }
}
