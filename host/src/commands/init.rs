//! `aiproxy-host init DIR`: writes a configuration to start from, and says what was written and what comes next.

use crate::cli::Init;
use crate::commands::say;
use crate::config::init;
use crate::plugin::embedded::EMBEDDED;

pub fn run(options: &Init) -> anyhow::Result<()> {
    let report = init::write(&options.dir, EMBEDDED)?;
    for path in &report.written {
        say(format!("written  {}", path.display()));
    }
    for path in &report.kept {
        say(format!("kept     {} (it was there already)", path.display()));
    }
    if !report.keys.is_empty() {
        say("\nproxy keys, one for each channel (they are in api_keys.json, and shown only now):");
    }
    for (channel, key) in &report.keys {
        say(format!("  {channel}: {key}"));
    }
    if let Some(token) = &report.admin_token {
        say("\nadmin token (it is in gateway.json, and shown only now):");
        say(format!("  {token}"));
        say(
            "  opens /dashboard and /stats from other machines: paste it there, or send `Authorization: Bearer <token>`",
        );
    }
    say("");
    report.next_steps.iter().for_each(say);
    Ok(())
}
