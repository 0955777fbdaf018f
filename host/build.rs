//! Builds the default plugins and embeds them: `EMBEDDED` and `ROUTERS` in `$OUT_DIR/embedded.rs`. Lists the templates,
//! too.
//!
//! The plugins are crates of this workspace for another target, which cargo cannot yet build as a dependency; so this
//! drives a second cargo. That one has a target folder of its own (the outer cargo holds the lock of the usual one), and
//! none of the outer build's flags: flags for the host's linker, coverage or clippy mean nothing to a component. It
//! runs only when a source of the plugins changed, from the sources that cargo already has, and never changes
//! `Cargo.lock`.

#[path = "build/templates.rs"]
mod templates;

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Channels' plugins.
const PLUGINS: &[&str] = &["bailian", "gemini", "openai"];
const ROUTERS: &[&str] = &["least-busy", "spread"];
const TARGET: &str = "wasm32-wasip2";
const PROFILE: &str = "guest";

fn main() {
    let host = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    let workspace = host.parent().expect("the host is a member of the workspace");
    watch(workspace);
    let built = target_installed()
        .and_then(|()| build(workspace, &guests_folder(&out)))
        .and_then(|folder| embed(&folder, &out))
        .and_then(|()| templates::list(workspace, &out));
    if let Err(message) = built {
        // One directive a line: cargo shows these as errors of its own.
        for line in message.lines() {
            println!("cargo::error={line}");
        }
    }
}

/// Says what the plugins are made of.
fn watch(workspace: &Path) {
    let mut sources = vec!["Cargo.toml".into(), "Cargo.lock".into(), "rust-toolchain.toml".into(), "wit".into()];
    for crate_name in PLUGINS.iter().chain(ROUTERS).chain(&["sdk", "shared"]) {
        sources.push(format!("plugins/{crate_name}/Cargo.toml"));
        sources.push(format!("plugins/{crate_name}/src"));
    }
    sources.push("plugins/sdk/wit".into());
    for source in sources {
        println!("cargo::rerun-if-changed={}", workspace.join(source).display());
    }
    for source in templates::sources(workspace) {
        println!("cargo::rerun-if-changed={}", source.display());
    }
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=build");
}

/// `target/guests` beside `target/debug` and `target/release`, so that both share one build; `OUT_DIR` lies in
/// `target/<profile>/build/…`. Where it does not, a folder inside it does as well.
fn guests_folder(out: &Path) -> PathBuf {
    let build = out.ancestors().find(|folder| folder.file_name().is_some_and(|name| name == "build"));
    let target = build.and_then(|build| build.parent()?.parent());
    target.filter(|target| target.join("CACHEDIR.TAG").exists()).unwrap_or(out).join("guests")
}

/// Makes sure that the standard library for components is there, and fetches it by rustup if not: with
/// `RUSTUP_AUTO_INSTALL=0` rustup itself does not read `targets` in `rust-toolchain.toml`.
fn target_installed() -> Result<(), String> {
    if has_target()? {
        return Ok(());
    }
    let mut rustup = Command::new("rustup");
    rustup.args(["target", "add", TARGET]);
    if let Some(toolchain) = env::var_os("RUSTUP_TOOLCHAIN") {
        rustup.arg("--toolchain").arg(toolchain);
    }
    let reason = match rustup.output() {
        Ok(output) if output.status.success() && has_target()? => return Ok(()),
        Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        Err(error) => format!("rustup: {error}"),
    };
    Err(format!(
        "the default plugins are WebAssembly components, and this Rust toolchain has no target {TARGET}\n\
         run `rustup target add {TARGET}` and build again; without rustup, install your system's package of the Rust \
         standard library for {TARGET}\n\
         (tried that command: {reason})"
    ))
}

fn has_target() -> Result<bool, String> {
    let rustc = env::var_os("RUSTC").expect("cargo sets it");
    let output = cleaned(Command::new(&rustc).args(["--print", "target-libdir", "--target", TARGET]))
        .output()
        .map_err(|error| format!("cannot run {}: {error}", rustc.display()))?;
    let folder = String::from_utf8_lossy(&output.stdout);
    let has_core = |entries: fs::ReadDir| {
        entries.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with("libcore-"))
    };
    Ok(output.status.success() && fs::read_dir(folder.trim()).is_ok_and(has_core))
}

/// Builds all plugins in one go and gives the folder they are in.
fn build(workspace: &Path, folder: &Path) -> Result<PathBuf, String> {
    let mut cargo = Command::new(env::var_os("CARGO").expect("cargo sets it"));
    cargo.current_dir(workspace).args(["build", "--locked", "--profile", PROFILE, "--target", TARGET, "--lib"]);
    cargo.arg("--target-dir").arg(folder);
    for plugin in PLUGINS.iter().chain(ROUTERS) {
        cargo.arg("--package").arg(format!("aiproxy-plugin-{plugin}"));
    }
    let output = cleaned(&mut cargo).output().map_err(|error| format!("cannot run cargo for the plugins: {error}"))?;
    if !output.status.success() {
        let report = String::from_utf8_lossy(&output.stderr);
        return Err(format!("the default plugins do not build; cargo says:\n{}", report.trim_end()));
    }
    Ok(folder.join(TARGET).join(PROFILE))
}

/// Takes the outer build's variables out, and leaves those that say where crates come from (`CARGO_HOME`,
/// `CARGO_NET_…`, `CARGO_REGISTRIES_…`), which toolchain is used, and the job server, through which both builds keep to
/// the wanted number of jobs together.
fn cleaned(command: &mut Command) -> &mut Command {
    const KEPT: &[&str] = &[
        "CARGO_HOME",
        "CARGO_HTTP_",
        "CARGO_MAKEFLAGS",
        "CARGO_NET_",
        "CARGO_REGISTR",
        "CARGO_SOURCE_",
        "CARGO_TERM_",
    ];
    for (name, _) in env::vars_os() {
        let Some(text) = name.to_str() else { continue };
        let is_kept = KEPT.iter().any(|kept| text.starts_with(kept));
        let is_outer = text.starts_with("CARGO_") && !is_kept;
        if is_outer || matches!(text, "RUSTFLAGS" | "RUSTDOCFLAGS" | "RUSTC_WRAPPER" | "RUSTC_WORKSPACE_WRAPPER") {
            command.env_remove(&name);
        }
    }
    // Set and empty, these also overrule what a configuration file says: a linker or a wrapper of the user's choice.
    command.env("CARGO_ENCODED_RUSTFLAGS", "").env("RUSTC_WRAPPER", "").env("RUSTC_WORKSPACE_WRAPPER", "")
}

/// Copies the components, so that another profile's build cannot change them under this one, and lists them.
fn embed(folder: &Path, out: &Path) -> Result<(), String> {
    let mut list = String::new();
    for (name, plugins) in [("EMBEDDED", PLUGINS), ("ROUTERS", ROUTERS)] {
        writeln!(list, "/// Name and component.\npub static {name}: &[(&str, &[u8])] = &[").expect("a string takes it");
        for plugin in plugins {
            // Cargo names it after the crate, in which a hyphen is none.
            let from = folder.join(format!("{}.wasm", plugin.replace('-', "_")));
            let to = out.join(format!("{plugin}.wasm"));
            let bytes = fs::read(&from).map_err(|error| format!("cannot read {}: {error}", from.display()))?;
            write_if_changed(&to, &bytes)?;
            writeln!(list, "    ({plugin:?}, include_bytes!({:?})),", to.display().to_string())
                .expect("a string takes it");
        }
        list.push_str("];\n");
    }
    write_if_changed(&out.join("embedded.rs"), list.as_bytes())
}

/// A newer time on an equal file would make rustc's inputs look changed.
fn write_if_changed(path: &Path, bytes: &[u8]) -> Result<(), String> {
    if fs::read(path).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    fs::write(path, bytes).map_err(|error| format!("cannot write {}: {error}", path.display()))
}
