//! A component's types as reflection finds them, printed in WIT.
//!
//! Reflection does not know types' names. They are taken from the type exports that every interface has, so that a
//! signature reads as its author wrote it.

use wasmtime::component::Component;
use wasmtime::component::types::{ComponentFunc, ComponentItem, Type as Found};
use wit_parser::{Function, Resolve, Type, TypeDefKind};

use super::interface::{followed, result_name, type_name};

/// Named types that are looked at; the interface has some twenty.
const NAMES_MAX: usize = 128;

/// What the component calls its types.
pub struct Names(Vec<(String, Found)>);

/// What is expected in the place of a type, by whose name equal types are told apart.
pub type Hint<'a> = (&'a Resolve, Type);

impl Names {
    pub fn of(component: &Component) -> Self {
        let (engine, ty) = (component.engine(), component.component_type());
        let mut names = Vec::new();
        for (_, item) in ty.exports(engine).chain(ty.imports(engine)).filter(|(name, _)| name.starts_with("aiproxy:")) {
            let ComponentItem::ComponentInstance(instance) = item.ty else { continue };
            for (name, item) in instance.exports(engine) {
                if let ComponentItem::Type(ty) = item.ty
                    && names.len() < NAMES_MAX
                {
                    names.push((name.to_owned(), ty));
                }
            }
        }
        Self(names)
    }

    /// By the hint's name, if the component calls it so too; else by the first that is equal.
    fn name(&self, ty: &Found, hint: Option<Hint<'_>>) -> Option<&str> {
        let hinted = hint.map(|(resolve, expected)| type_name(resolve, expected));
        let called_so = |(name, other): &&(String, Found)| Some(name.as_str()) == hinted.as_deref() && other == ty;
        let has_name = matches!(ty, Found::Record(_) | Found::Variant(_) | Found::Enum(_) | Found::Flags(_));
        let equal = |(_, other): &&(String, Found)| has_name && other == ty;
        let found = self.0.iter().find(called_so).or_else(|| self.0.iter().find(equal));
        found.map(|(name, _)| name.as_str())
    }

    pub fn shown(&self, ty: &Found, hint: Option<Hint<'_>>) -> String {
        if let Some(name) = self.name(ty, hint) {
            return name.to_owned();
        }
        let hint = hint.map(|(resolve, expected)| (resolve, followed(resolve, expected)));
        let inner = hint.and_then(|(resolve, expected)| match expected {
            Type::Id(id) => match &resolve.types[id].kind {
                TypeDefKind::Option(ty) | TypeDefKind::List(ty) => Some((resolve, *ty)),
                _ => None,
            },
            _ => None,
        });
        match ty {
            Found::Bool => "bool".to_owned(),
            Found::S8 => "s8".to_owned(),
            Found::U8 => "u8".to_owned(),
            Found::S16 => "s16".to_owned(),
            Found::U16 => "u16".to_owned(),
            Found::S32 => "s32".to_owned(),
            Found::U32 => "u32".to_owned(),
            Found::S64 => "s64".to_owned(),
            Found::U64 => "u64".to_owned(),
            Found::Float32 => "f32".to_owned(),
            Found::Float64 => "f64".to_owned(),
            Found::Char => "char".to_owned(),
            Found::String => "string".to_owned(),
            Found::List(list) => format!("list<{}>", self.shown(&list.ty(), inner)),
            Found::Option(option) => format!("option<{}>", self.shown(&option.ty(), inner)),
            Found::Tuple(tuple) => {
                let types: Vec<_> = tuple.types().map(|ty| self.shown(&ty, None)).collect();
                format!("tuple<{}>", types.join(", "))
            }
            Found::Result(result) => {
                let shown = |ty: Option<Found>| ty.map(|ty| self.shown(&ty, None));
                result_name(shown(result.ok()), shown(result.err()))
            }
            other => kind(other).to_owned(),
        }
    }

    pub fn signature(&self, name: &str, function: &ComponentFunc, hint: Option<(&Resolve, &Function)>) -> String {
        let expected =
            |index: usize| hint.and_then(|(resolve, expected)| Some((resolve, expected.params.get(index)?.ty)));
        let parameters: Vec<_> = function
            .params()
            .enumerate()
            .map(|(index, (name, ty))| format!("{name}: {}", self.shown(&ty, expected(index))))
            .collect();
        let expected = hint.and_then(|(resolve, expected)| Some((resolve, expected.result?)));
        let result = function.results().next().map(|ty| format!(" -> {}", self.shown(&ty, expected)));
        let is_async = if function.async_() { "async " } else { "" };
        format!("{name}: {is_async}func({}){}", parameters.join(", "), result.unwrap_or_default())
    }

    pub fn definition(&self, ty: &Found, hint: Hint<'_>) -> Option<String> {
        let (resolve, expected) = hint;
        // The expected member of the same name tells apart what is equal in structure.
        let member_hint = |name: &str| {
            let Type::Id(id) = expected else { return None };
            let ty = match &resolve.types[id].kind {
                TypeDefKind::Record(record) => record.fields.iter().find(|field| field.name == name).map(|it| it.ty),
                TypeDefKind::Variant(variant) => variant.cases.iter().find(|case| case.name == name)?.ty,
                _ => None,
            };
            ty.map(|ty| (resolve, ty))
        };
        let shown = |name: &str, ty: &Found| self.shown(ty, member_hint(name));
        let members: Vec<String> = match ty {
            Found::Record(record) => {
                record.fields().map(|field| format!("{}: {}", field.name, shown(field.name, &field.ty))).collect()
            }
            Found::Variant(variant) => variant
                .cases()
                .map(|case| match &case.ty {
                    Some(ty) => format!("{}({})", case.name, shown(case.name, ty)),
                    None => case.name.to_owned(),
                })
                .collect(),
            Found::Enum(names) => names.names().map(str::to_owned).collect(),
            Found::Flags(flags) => flags.names().map(str::to_owned).collect(),
            _ => return None,
        };
        let name = self.name(ty, Some(hint)).unwrap_or("_");
        Some(format!("{} {name} {{ {} }}", kind(ty), members.join(", ")))
    }
}

fn kind(ty: &Found) -> &'static str {
    match ty {
        Found::Record(_) => "record",
        Found::Variant(_) => "variant",
        Found::Enum(_) => "enum",
        Found::Flags(_) => "flags",
        Found::Own(_) => "own",
        Found::Borrow(_) => "borrow",
        Found::Future(_) => "future",
        Found::Stream(_) => "stream",
        Found::ErrorContext => "error-context",
        Found::Map(_) => "map",
        _ => "another type",
    }
}
