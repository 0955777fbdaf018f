//! What a component may import, and what to do about everything else.

use super::INTERFACE;

/// The packages of WASI 0.2 that are linked.
const WASI: [&str; 6] = ["cli", "clocks", "filesystem", "io", "random", "sockets"];

pub fn is_offered(import: &str) -> bool {
    let wasi = |rest: &str| {
        let (package, version) = (rest.split('/').next(), rest.rsplit_once('@').map(|(_, version)| version));
        package.is_some_and(|package| WASI.contains(&package)) && version.is_some_and(|v| v.starts_with("0.2."))
    };
    match import.strip_prefix("wasi:") {
        Some(rest) => wasi(rest),
        None => ["aiproxy:plugin/types", "aiproxy:plugin/log"]
            .into_iter()
            .any(|name| import.strip_prefix(name).and_then(|rest| rest.strip_prefix('@')) == Some(INTERFACE)),
    }
}

/// How to do without an import that is not offered.
pub fn remedy(import: &str) -> &'static str {
    match import.strip_prefix("wasi:") {
        Some(rest) if rest.starts_with("http/") => {
            "The gateway sends the requests, plugins only decide: build without HTTP (for componentize-js: \
             `--disable http --disable fetch-event`)"
        }
        Some(rest) if rest.contains("@0.3") => "WASI 0.3 is not offered: build for WASI 0.2",
        Some(rest) if WASI.iter().any(|package| rest.split('/').next() == Some(package)) => {
            "This version of WASI is not offered: build for WASI 0.2"
        }
        Some(_) => {
            "Of WASI 0.2, cli, clocks, filesystem, io, random and sockets can be imported (and answer empty or denied): \
             leave out what needs more"
        }
        None if import.starts_with("aiproxy:plugin/") => {
            "This gateway offers aiproxy:plugin/log@0.1.0 and aiproxy:plugin/types@0.1.0: build against its wit/plugin.wit"
        }
        None => "A plugin is given its log and WASI 0.2, and nothing else: leave out what needs more",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_import_is_offered_or_has_a_remedy_of_its_own() {
        for offered in ["wasi:io/streams@0.2.6", "wasi:cli/exit@0.2.12", "aiproxy:plugin/log@0.1.0"] {
            assert!(is_offered(offered), "{offered}");
        }
        for (refused, advice) in [
            ("wasi:http/types@0.2.6", "without HTTP"),
            ("wasi:cli/stdout@0.3.0", "WASI 0.3"),
            ("wasi:io/streams@0.1.0", "This version"),
            ("wasi:keyvalue/store@0.2.0-draft", "can be imported"),
            ("aiproxy:plugin/log@0.2.0", "aiproxy:plugin/log@0.1.0"),
            ("env:host/things", "nothing else"),
        ] {
            assert!(!is_offered(refused) && remedy(refused).contains(advice), "{refused}: {}", remedy(refused));
        }
        assert!(remedy("aiproxy:plugin/log@0.2.0").contains(INTERFACE));
    }
}
