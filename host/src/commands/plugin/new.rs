//! `aiproxy-host plugin new`: a folder to start from, out of the templates inside the binary.
//!
//! The templates are whole plugins, tested as they are: `my-plugin`, and `my_plugin` where a name must be an identifier,
//! become the new plugin's name, in texts and in names of files. Nothing is fetched, and nothing is written over.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};

use crate::cli::New;
use crate::commands::say;
use crate::config::problem::nearest;
use crate::config::{NAME_RULE, is_name};
use crate::plugin::WIT;
use crate::plugin::templates::{File, SDK, TEMPLATES};

/// Where the SDK lies for a template in this repository, and for a plugin that was made from it.
const SDK_PATHS: (&str, &str) = ("../../sdk", "sdk");

pub fn run(options: &New) -> anyhow::Result<ExitCode> {
    let name = &options.name;
    check_name(name)?;
    let template = template(&options.lang)?;
    let folder = options.dir.clone().unwrap_or_else(|| PathBuf::from(name));
    make(&folder)?;
    for file in template {
        write(&folder.join(named(file.path, name)), &content(file, name), file.is_executable)?;
    }
    if options.lang == "rust" {
        for file in SDK {
            write(&folder.join(SDK_PATHS.1).join(file.path), file.bytes, file.is_executable)?;
        }
    }
    if !template.iter().any(|file| file.path == "wit/plugin.wit") {
        write(&folder.join("wit/plugin.wit"), WIT.as_bytes(), false)?;
    }
    say(format!("{} has a plugin in it; README.md says more. What comes next:", folder.display()));
    let steps = steps(template, name);
    for (step, command) in [("build", steps.build), ("test", steps.test), ("deploy", steps.deploy)] {
        say(format!("  {step:<7} {}", command.as_deref().unwrap_or("see README.md")));
    }
    Ok(ExitCode::SUCCESS)
}

/// The name becomes that of a file, a package and, with `_` for `-`, of an identifier, in any of the languages.
fn check_name(name: &str) -> anyhow::Result<()> {
    if !is_name(name) {
        bail!("{name:?} is no name for a plugin: {NAME_RULE}");
    }
    let is_package = name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-".contains(&b));
    if !is_package {
        bail!("{name:?} cannot name a package: use small letters, digits, `_` and `-`, beginning with a letter");
    }
    Ok(())
}

fn template(language: &str) -> anyhow::Result<&'static [File]> {
    let known = || TEMPLATES.iter().map(|(name, _)| *name);
    let found = TEMPLATES.iter().find(|(name, _)| *name == language);
    found.map(|(_, files)| *files).with_context(|| {
        let meant = nearest(language, known()).map(|meant| format!("; did you mean {meant}?")).unwrap_or_default();
        let known = known().collect::<Vec<_>>().join(", ");
        format!("there is no template for {language:?}{meant} (there are: {known})")
    })
}

/// An empty folder.
fn make(folder: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("the folder {} cannot be made", folder.display()))?;
    let mut entries = fs::read_dir(folder).with_context(|| format!("{} cannot be read", folder.display()))?;
    if entries.next().is_some() {
        bail!("{} is not empty: name another folder with --dir", folder.display());
    }
    Ok(())
}

fn named(text: &str, name: &str) -> String {
    text.replace("my-plugin", name).replace("my_plugin", &name.replace('-', "_"))
}

fn content(file: &File, name: &str) -> Vec<u8> {
    let Ok(text) = std::str::from_utf8(file.bytes) else { return file.bytes.to_vec() };
    let text = named(text, name);
    let is_manifest = file.path == "Cargo.toml";
    if is_manifest { text.replace(SDK_PATHS.0, SDK_PATHS.1) } else { text }.into_bytes()
}

fn write(path: &Path, bytes: &[u8], is_executable: bool) -> anyhow::Result<()> {
    let written = || {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let mode = if is_executable { 0o777 } else { 0o666 };
        OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?.write_all(bytes)
    };
    match written() {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => bail!("{} is there already", path.display()),
        outcome => outcome.with_context(|| format!("{} cannot be written", path.display())),
    }
}

/// How to go on, as the template's README has it.
#[derive(Debug, Default, PartialEq)]
struct Steps {
    build: Option<String>,
    test: Option<String>,
    deploy: Option<String>,
}

/// The commands of a README are those in its code blocks. The one that deploys is a `cp`, the one that tests says so, and
/// the first other one builds, but for what installs a tool.
fn steps(template: &[File], name: &str) -> Steps {
    let readme = template.iter().find(|file| file.path == "README.md").map(|file| content(file, name));
    let readme = String::from_utf8(readme.unwrap_or_default()).unwrap_or_default();
    let mut commands = Vec::new();
    let mut is_code = false;
    for line in readme.lines() {
        if let Some(language) = line.strip_prefix("```") {
            is_code = !is_code && ["console", "sh", "bash", "shell"].contains(&language.trim());
        } else if is_code {
            let command = line.trim().trim_start_matches("$ ");
            let command = command.split(" #").next().unwrap_or_default().trim();
            if !command.is_empty() {
                commands.push(command.to_owned());
            }
        }
    }
    let mut steps = Steps::default();
    for command in commands {
        let mut words = command.split(' ');
        let step = match words.next().unwrap_or_default() {
            "cp" => &mut steps.deploy,
            "rustup" | "pip" | "apt-get" | "cd" => continue,
            _ if words.any(|word| word == "test") => &mut steps.test,
            _ => &mut steps.build,
        };
        step.get_or_insert(command);
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_language_has_a_template() {
        let languages: Vec<_> = TEMPLATES.iter().map(|(name, _)| *name).collect();
        assert_eq!(languages, ["c", "go", "js", "python", "rust"]);
    }

    #[test]
    fn every_template_says_how_to_build_test_and_deploy_it() {
        for (language, files) in TEMPLATES {
            let steps = steps(files, "hello");
            assert!(steps.build.is_some() && steps.test.is_some(), "{language}: {steps:?}");
            assert!(steps.deploy.is_some_and(|deploy| deploy.contains("hello.wasm")), "{language}");
        }
    }

    #[test]
    fn names_become_the_plugins_in_both_forms() {
        assert_eq!(named("my-plugin my_plugin.rs my-plugins", "hello-you"), "hello-you hello_you.rs hello-yous");
        let file =
            File { path: "Cargo.toml", is_executable: false, bytes: b"name = \"my-plugin\"\npath = \"../../sdk\"" };
        assert_eq!(content(&file, "hello"), b"name = \"hello\"\npath = \"sdk\"");
        let binary = File { path: "a.bin", is_executable: false, bytes: b"\xffmy-plugin" };
        assert_eq!(content(&binary, "hello"), binary.bytes);
    }

    #[test]
    fn a_name_must_serve_every_language() {
        for name in ["hello", "hello-you_2"] {
            check_name(name).unwrap();
        }
        for name in ["", "../x", "a b", "Hello", "2hello", "a.b", "-a", &"x".repeat(65)] {
            assert!(check_name(name).is_err(), "{name}");
        }
    }

    #[test]
    fn commands_are_those_of_the_code_blocks() {
        let text = b"# my-plugin\n```console\n$ make          # builds\n$ make test\n```\n`rm`\n```json\n{}\n```\n```sh\ncp my-plugin.wasm x/\n```";
        let readme = [File { path: "README.md", is_executable: false, bytes: text }];
        let some = |text: &str| Some(text.to_owned());
        let expected = Steps { build: some("make"), test: some("make test"), deploy: some("cp hello.wasm x/") };
        assert_eq!(steps(&readme, "hello"), expected);
        let text = b"```sh\ncargo test\n```\n```sh\nrustup target add x\ncargo build\n```\n";
        let readme = [File { path: "README.md", is_executable: false, bytes: text }];
        let expected = Steps { build: some("cargo build"), test: some("cargo test"), deploy: None };
        assert_eq!(steps(&readme, "hello"), expected);
    }
}
