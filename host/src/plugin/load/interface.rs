//! The plugin interface as this gateway speaks it: `wit/plugin.wit`, parsed, and printed in its own syntax.
//!
//! The bindings are generated from the same file, so that what a mismatch says to expect is what is linked.

use std::sync::LazyLock;

use wit_parser::{Function, Interface as WitInterface, Resolve, Type, TypeDefKind};

/// The WIT package, as it stands in the repository.
pub const WIT: &str = include_str!("../../../../wit/plugin.wit");

static RESOLVE: LazyLock<Resolve> = LazyLock::new(|| {
    let mut resolve = Resolve::default();
    resolve.push_source("plugin.wit", WIT).expect("the bindings are generated from this file");
    resolve
});

/// One interface of the package.
#[derive(Clone, Copy)]
pub struct Interface {
    pub resolve: &'static Resolve,
    interface: &'static WitInterface,
}

impl Interface {
    /// By the name that a component imports or exports it under, version included.
    pub fn named(name: &str) -> Option<Self> {
        let resolve = &*RESOLVE;
        let is_meant = |id| resolve.id_of(id).is_some_and(|own| own == name);
        let (_, interface) = resolve.interfaces.iter().find(|(id, _)| is_meant(*id))?;
        Some(Self { resolve, interface })
    }

    pub fn functions(self) -> impl Iterator<Item = &'static Function> {
        self.interface.functions.values()
    }

    pub fn function(self, name: &str) -> Option<&'static Function> {
        self.interface.functions.get(name)
    }
}

/// `decide: func(request: request, caller: caller) -> answer`
pub fn signature(resolve: &Resolve, function: &Function) -> String {
    let parameters = function.params.iter().map(|param| format!("{}: {}", param.name, type_name(resolve, param.ty)));
    let parameters = parameters.collect::<Vec<_>>().join(", ");
    let result = function.result.map(|ty| format!(" -> {}", type_name(resolve, ty))).unwrap_or_default();
    format!("{}: func({parameters}){result}", function.name)
}

/// The name by which other types refer to it, or its structure where it has none.
pub fn type_name(resolve: &Resolve, ty: Type) -> String {
    let inner = |ty| type_name(resolve, ty);
    let plain = match ty {
        Type::Bool => "bool",
        Type::U8 => "u8",
        Type::U16 => "u16",
        Type::U32 => "u32",
        Type::U64 => "u64",
        Type::S8 => "s8",
        Type::S16 => "s16",
        Type::S32 => "s32",
        Type::S64 => "s64",
        Type::F32 => "f32",
        Type::F64 => "f64",
        Type::Char => "char",
        Type::String => "string",
        Type::ErrorContext => "error-context",
        Type::Id(id) => {
            let definition = &resolve.types[id];
            if let Some(name) = &definition.name {
                return name.clone();
            }
            return match &definition.kind {
                TypeDefKind::Type(ty) => inner(*ty),
                TypeDefKind::Option(ty) => format!("option<{}>", inner(*ty)),
                TypeDefKind::List(ty) => format!("list<{}>", inner(*ty)),
                TypeDefKind::Tuple(tuple) => {
                    format!("tuple<{}>", tuple.types.iter().map(|ty| inner(*ty)).collect::<Vec<_>>().join(", "))
                }
                TypeDefKind::Result(result) => result_name(result.ok.map(inner), result.err.map(inner)),
                other => other.as_str().to_owned(),
            };
        }
    };
    plain.to_owned()
}

/// `record caller { id: string, tags: list<string> }`; none for a type that has no definition of its own.
pub fn definition(resolve: &Resolve, ty: Type) -> Option<String> {
    let Type::Id(id) = ty else { return None };
    let definition = &resolve.types[id];
    let member = |name: &str, ty: Option<Type>, open: &str, close: &str| match ty {
        Some(ty) => format!("{name}{open}{}{close}", type_name(resolve, ty)),
        None => name.to_owned(),
    };
    let members: Vec<String> = match &definition.kind {
        TypeDefKind::Record(record) => {
            record.fields.iter().map(|field| member(&field.name, Some(field.ty), ": ", "")).collect()
        }
        TypeDefKind::Variant(variant) => {
            variant.cases.iter().map(|case| member(&case.name, case.ty, "(", ")")).collect()
        }
        TypeDefKind::Enum(names) => names.cases.iter().map(|case| case.name.clone()).collect(),
        TypeDefKind::Flags(flags) => flags.flags.iter().map(|flag| flag.name.clone()).collect(),
        _ => return None,
    };
    let (kind, name) = (definition.kind.as_str(), definition.name.as_deref().unwrap_or("_"));
    Some(format!("{kind} {name} {{ {} }}", members.join(", ")))
}

pub fn result_name(ok: Option<String>, err: Option<String>) -> String {
    match (ok, err) {
        (None, None) => "result".to_owned(),
        (Some(ok), None) => format!("result<{ok}>"),
        (ok, Some(err)) => format!("result<{}, {err}>", ok.as_deref().unwrap_or("_")),
    }
}

/// What a name stands for: other names of it are followed.
pub fn followed(resolve: &Resolve, ty: Type) -> Type {
    match ty {
        Type::Id(id) => match &resolve.types[id].kind {
            TypeDefKind::Type(other) => followed(resolve, *other),
            _ => ty,
        },
        _ => ty,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_printed_as_the_file_has_them() {
        for (name, functions) in [
            ("aiproxy:plugin/channel@0.1.0", ["configure", "decide"]),
            ("aiproxy:plugin/router@0.1.0", ["configure", "route"]),
        ] {
            let interface = Interface::named(name).unwrap();
            for function in functions {
                let signature = signature(interface.resolve, interface.function(function).unwrap());
                assert!(WIT.contains(&format!("    {signature};\n")), "{signature}");
            }
        }
        assert!(Interface::named("aiproxy:plugin/channel@0.2.0").is_none());
    }

    #[test]
    fn definitions_are_printed_on_one_line() {
        let interface = Interface::named("aiproxy:plugin/channel@0.1.0").unwrap();
        let decide = interface.function("decide").unwrap();
        let printed = |ty| definition(interface.resolve, followed(interface.resolve, ty)).expect("it has a definition");
        assert_eq!(printed(decide.params[1].ty), "record caller { id: string, tags: list<string> }");
        assert_eq!(printed(decide.result.unwrap()), "variant answer { send(plan), decline, refuse(refusal) }");
    }
}
