//! Each channel's part, and whether callers stick.

use aiproxy_plugin_sdk::settings::Table;
use serde::Deserialize;

/// The settings, as the README lists them.
#[derive(Debug, Deserialize)]
#[serde(default)]
pub struct Settings {
    pub percent: Parts,
    pub sticky: bool,
    pub salt: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self { percent: Parts::default(), sticky: true, salt: String::new() }
    }
}

/// The line from 0 to 100, cut into the channels' parts in the order of their names: so a part does not move because the
/// settings were written in another order.
#[derive(Debug, Default, Deserialize)]
#[serde(try_from = "Table<String, Percent>")]
pub struct Parts(Vec<(String, f64)>);

/// A percentage.
#[derive(Debug, Deserialize)]
#[serde(try_from = "f64")]
struct Percent(f64);

impl TryFrom<f64> for Percent {
    type Error = &'static str;

    fn try_from(percent: f64) -> Result<Self, Self::Error> {
        if (0.0..=100.0).contains(&percent) { Ok(Self(percent)) } else { Err("expected a percentage from 0 to 100") }
    }
}

impl TryFrom<Table<String, Percent>> for Parts {
    type Error = &'static str;

    fn try_from(table: Table<String, Percent>) -> Result<Self, Self::Error> {
        let mut parts: Vec<(String, f64)> = table.into_iter().map(|(channel, percent)| (channel, percent.0)).collect();
        parts.sort_by(|(left, _), (right, _)| left.cmp(right));
        let sum: f64 = parts.iter().map(|(_, percent)| percent).sum();
        // What was meant to be 100 in decimal numbers need not be in binary ones.
        if sum > 100.0 + 1e-6 { Err("the percentages come to more than 100 together") } else { Ok(Self(parts)) }
    }
}

impl Parts {
    /// The channel whose part a point is on; none on the rest of the line.
    pub fn at(&self, point: f64) -> Option<&str> {
        let mut end = 0.0;
        self.0.iter().find_map(|(channel, percent)| {
            end += percent;
            (point < end).then_some(channel.as_str())
        })
    }

    /// Whether a channel's part is said, be it 0.
    pub fn has(&self, channel: &str) -> bool {
        self.0.iter().any(|(known, _)| known == channel)
    }
}
