//! Lists the templates of `plugin new`, and the SDK that the Rust one comes with: `TEMPLATES` and `SDK` in
//! `$OUT_DIR/templates.rs`.
//!
//! Everything in `plugins/templates/<language>` but what git ignores: a template that was built in its place must not
//! bring its build along. The ignore files are read here, since a source archive has no repository to ask.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use ignore::WalkBuilder;

pub fn list(workspace: &Path, out: &Path) -> Result<(), String> {
    let mut text = String::from("/// Language and files.\npub static TEMPLATES: &[(&str, &[File])] = &[\n");
    for (language, folder) in languages(&workspace.join("plugins/templates")) {
        writeln!(text, "    ({language:?}, &{}),", table(&folder)?).expect("a string takes it");
    }
    text.push_str("];\n\n/// What the Rust template depends on.\npub static SDK: &[File] = &");
    text.push_str(&table(&workspace.join("plugins/sdk"))?);
    text.push_str(";\n");
    super::write_if_changed(&out.join("templates.rs"), text.as_bytes())
}

/// The folders to watch. One that is not there would make cargo run the script every time.
pub fn sources(workspace: &Path) -> impl Iterator<Item = PathBuf> {
    let folders = ["plugins/templates", "plugins/sdk"].map(|folder| workspace.join(folder));
    folders.into_iter().filter(|folder| folder.exists())
}

fn languages(folder: &Path) -> Vec<(String, PathBuf)> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut languages: Vec<_> = entries
        .filter(|entry| entry.path().is_dir())
        .filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry.path())))
        .filter(|(name, _)| !name.starts_with('.'))
        .collect();
    languages.sort();
    languages
}

/// Every file below the folder, in order; none if there is no folder.
fn table(folder: &Path) -> Result<String, String> {
    let mut files = String::from("[\n");
    if !folder.exists() {
        return Ok("[]".to_owned());
    }
    let mut walk = WalkBuilder::new(folder);
    // Only ignore files below: neither what this machine's git ignores, nor what the folders above do.
    walk.hidden(false).parents(false).ignore(false).git_global(false).git_exclude(false).require_git(false);
    walk.sort_by_file_path(Path::cmp);
    for entry in walk.build() {
        let entry = entry.map_err(|error| format!("the templates cannot be listed: {error}"))?;
        let path = entry.path();
        let metadata = fs::metadata(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        if !metadata.is_file() {
            continue;
        }
        let name = path.strip_prefix(folder).expect("it is below");
        let name = name.to_str().ok_or_else(|| format!("{} has a name that is not UTF-8", path.display()))?;
        let is_executable = metadata.permissions().mode() & 0o100 != 0;
        writeln!(
            files,
            "        File {{ path: {name:?}, is_executable: {is_executable}, bytes: include_bytes!({:?}) }},",
            path.display().to_string()
        )
        .expect("a string takes it");
    }
    files.push_str("    ]");
    Ok(files)
}
