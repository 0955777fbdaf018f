//! `docs/plugin-reference.md`, made from `wit/plugin.wit`: what the interface says, for reading.

use std::fmt::Write;

use wit_parser::{Docs, Resolve, Type, TypeDefKind};

use super::load::interface::{WIT, followed, signature, type_name};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/plugin-reference.md");
const OPENING: &str = "# The plugin interface

Made from [wit/plugin.wit](../wit/plugin.wit); what a plugin is and how to write one: [plugins.md](plugins.md). A world is
what a component exports and imports: `channel-plugin` for a channel's plugin, `router-plugin` for a router.
";

/// `UPDATE=1 cargo test plugin_reference` writes it anew.
#[test]
fn plugin_reference_in_the_docs_is_that_of_the_interface() {
    let made = reference();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(FILE, &made).unwrap();
    }
    assert_eq!(std::fs::read_to_string(FILE).unwrap_or_default(), made);
}

fn reference() -> String {
    let mut resolve = Resolve::default();
    let package = resolve.push_source("plugin.wit", WIT).unwrap();
    let package = &resolve.packages[package];
    let mut page = format!("{OPENING}\nPackage `{}`. {}\n\n", package.name, told(&package.docs));
    for (name, id) in &package.worlds {
        let world = &resolve.worlds[*id];
        let names = |items: &wit_parser::IndexMap<wit_parser::WorldKey, wit_parser::WorldItem>| {
            let names: Vec<_> = items.keys().map(|key| format!("`{}`", resolve.name_world_key(key))).collect();
            names.join(", ")
        };
        writeln!(page, "- World `{name}`: exports {}, imports {}", names(&world.exports), names(&world.imports))
            .unwrap();
    }
    for (name, id) in &package.interfaces {
        let interface = &resolve.interfaces[*id];
        writeln!(page, "\n## Interface `{name}`\n").unwrap();
        paragraph(&mut page, &interface.docs);
        for (name, function) in &interface.functions {
            writeln!(page, "### `{name}`\n\n```wit\n{};\n```\n", signature(&resolve, function)).unwrap();
            paragraph(&mut page, &function.docs);
        }
        for (name, id) in &interface.types {
            let definition = &resolve.types[*id];
            // Where an interface uses another's type, that one tells of it.
            if followed(&resolve, Type::Id(*id)) == Type::Id(*id) {
                type_section(&mut page, &resolve, name, &definition.kind, &definition.docs);
            }
        }
    }
    // One empty line at most, and one line end at the end.
    while page.contains("\n\n\n") {
        page = page.replace("\n\n\n", "\n\n");
    }
    page.trim_end().to_owned() + "\n"
}

fn type_section(page: &mut String, resolve: &Resolve, name: &str, kind: &TypeDefKind, docs: &Docs) {
    let mut section = |kind: &str, head: &str, rows: Vec<(String, Option<Type>, &Docs)>| {
        writeln!(page, "### {kind} `{name}`\n").unwrap();
        paragraph(page, docs);
        if rows.is_empty() {
            return;
        }
        let has_types = rows.iter().any(|(_, ty, _)| ty.is_some());
        let (heads, rule) = if has_types { (" type |", "---|") } else { ("", "") };
        writeln!(page, "| {head} |{heads} meaning |\n|---|{rule}---|").unwrap();
        for (name, ty, docs) in rows {
            let shown = ty.map(|ty| format!("`{}`", type_name(resolve, ty))).unwrap_or_default();
            let ty = if has_types { format!(" {shown} |") } else { String::new() };
            writeln!(page, "| `{name}` |{ty} {} |", told(docs)).unwrap();
        }
        page.push('\n');
    };
    match kind {
        TypeDefKind::Record(record) => {
            let rows = record.fields.iter().map(|field| (field.name.clone(), Some(field.ty), &field.docs));
            section("Record", "field", rows.collect());
        }
        TypeDefKind::Variant(variant) => {
            let rows = variant.cases.iter().map(|case| (case.name.clone(), case.ty, &case.docs));
            section("Variant", "case", rows.collect());
        }
        TypeDefKind::Enum(cases) => {
            let rows = cases.cases.iter().map(|case| (case.name.clone(), None, &case.docs));
            section("Enum", "case", rows.collect());
        }
        _ => section("Type", "", Vec::new()),
    }
}

fn paragraph(page: &mut String, docs: &Docs) {
    let told = told(docs);
    if !told.is_empty() {
        writeln!(page, "{told}\n").unwrap();
    }
}

/// On one line; a bar would end a table's cell.
fn told(docs: &Docs) -> String {
    let words: Vec<_> = docs.contents.iter().flat_map(|text| text.split_whitespace()).collect();
    words.join(" ").replace('|', "\\|")
}
