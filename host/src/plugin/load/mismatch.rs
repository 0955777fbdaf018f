//! Where a component's functions are of another type than the interface's, said in WIT.
//!
//! What wasmtime says of it at instantiation ("expected record of 9 fields, found 8 fields") names neither the function
//! nor the field. So the interface's functions are compared one by one, before anything is instantiated: what
//! [`super::interface`] says with what reflection finds in the component. Parameters' names are no part of a function's
//! type.

use std::fmt;

use wasmtime::component::Component;
use wasmtime::component::types::{ComponentFunc, ComponentInstance, ComponentItem, Type as Found};
use wit_parser::{Function, Type, TypeDefKind};

use super::found::Names;
use super::interface::{Interface, definition, followed, signature, type_name};
use crate::plugin::log::escaped;

/// Of one signature or definition in a message.
const TEXT_BYTES_MAX: usize = 600;

/// A function that does not fit. Its `Display` is one line; `plugin check` sets the parts below each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch {
    /// With its version.
    pub interface: String,
    pub function: String,
    pub is_import: bool,
    /// Signature.
    pub expected: String,
    /// Signature; none where the function is missing, or nothing that can be called.
    pub found: Option<String>,
    /// In words, the first one.
    pub difference: String,
    /// Of the type in which it is: as expected, and as found.
    pub definitions: Option<(String, String)>,
}

pub const REMEDY: &str =
    "build against this gateway's wit/plugin.wit (`aiproxy-host plugin new` writes it beside a template)";

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { interface, function, expected, difference, .. } = self;
        let direction = if self.is_import { "imported " } else { "" };
        write!(f, "the {direction}function {function} of {interface} does not fit: expected `{expected}`, ")?;
        match &self.found {
            Some(found) => write!(f, "found `{found}`")?,
            None => f.write_str("found none")?,
        }
        write!(f, ": {difference}")?;
        if let Some((expected, found)) = &self.definitions {
            write!(f, " (expected `{expected}`, found `{found}`)")?;
        }
        write!(f, "; {REMEDY}")
    }
}

/// The first function of the plugin interface that the component exports, lacks or imports with another type.
pub fn look(component: &Component) -> Result<(), Box<Mismatch>> {
    let (engine, ty) = (component.engine(), component.component_type());
    let names = Names::of(component);
    for (name, item) in ty.exports(engine) {
        if let (Some(interface), ComponentItem::ComponentInstance(found)) = (Interface::named(name), &item.ty) {
            let look = Look { component, names: &names, interface, name, is_import: false };
            interface.functions().try_for_each(|function| look.function(function, found))?;
        }
    }
    for (name, item) in ty.imports(engine) {
        if let (Some(interface), ComponentItem::ComponentInstance(found)) = (Interface::named(name), &item.ty) {
            let look = Look { component, names: &names, interface, name, is_import: true };
            look.imported(found)?;
        }
    }
    Ok(())
}

/// One interface of one component.
struct Look<'a> {
    component: &'a Component,
    names: &'a Names,
    interface: Interface,
    name: &'a str,
    is_import: bool,
}

/// How an expected type and a found one differ.
enum Difference {
    /// They are not the same kind of thing at all: the place that holds them says so.
    Whole,
    /// In words, and the definitions of the type it is in.
    Inside { words: String, definitions: Option<(String, String)> },
}

impl Look<'_> {
    fn mismatch(
        &self,
        function: &str,
        expected: String,
        found: Option<String>,
        difference: Difference,
    ) -> Box<Mismatch> {
        let (difference, definitions) = match difference {
            Difference::Whole => ("it is another type".to_owned(), None),
            Difference::Inside { words, definitions } => (words, definitions),
        };
        let cut = |text: String| escaped(&text, TEXT_BYTES_MAX);
        Box::new(Mismatch {
            interface: self.name.to_owned(),
            function: escaped(function, 80),
            is_import: self.is_import,
            expected,
            found: found.map(cut),
            difference: cut(difference),
            definitions: definitions.map(|(expected, found)| (cut(expected), cut(found))),
        })
    }

    /// One that must be there.
    fn function(&self, expected: &'static Function, instance: &ComponentInstance) -> Result<(), Box<Mismatch>> {
        let engine = self.component.engine();
        let wanted = || signature(self.interface.resolve, expected);
        let words = match instance.get_export(engine, &expected.name).map(|item| item.ty) {
            Some(ComponentItem::ComponentFunc(found)) => return self.compare(expected, &found),
            Some(_) => "it is no function".to_owned(),
            None => {
                let others: Vec<_> = instance
                    .exports(engine)
                    .filter(|(_, item)| matches!(item.ty, ComponentItem::ComponentFunc(_)))
                    .map(|(name, _)| format!("`{name}`"))
                    .collect();
                let others = if others.is_empty() { "no function".to_owned() } else { others.join(", ") };
                format!("it is missing, and there is {others}")
            }
        };
        Err(self.mismatch(&expected.name, wanted(), None, Difference::Inside { words, definitions: None }))
    }

    /// What is imported may be less than there is, but nothing else.
    fn imported(&self, instance: &ComponentInstance) -> Result<(), Box<Mismatch>> {
        for (name, item) in instance.exports(self.component.engine()) {
            let ComponentItem::ComponentFunc(found) = item.ty else { continue };
            let Some(expected) = self.interface.function(name) else {
                let words = "this gateway has no such function".to_owned();
                let found = self.names.signature(name, &found, None);
                let difference = Difference::Inside { words, definitions: None };
                return Err(self.mismatch(name, "nothing of that name".to_owned(), Some(found), difference));
            };
            self.compare(expected, &found)?;
        }
        Ok(())
    }

    fn compare(&self, expected: &'static Function, found: &ComponentFunc) -> Result<(), Box<Mismatch>> {
        let Some(difference) = self.difference(expected, found) else { return Ok(()) };
        let resolve = self.interface.resolve;
        let found = self.names.signature(&expected.name, found, Some((resolve, expected)));
        Err(self.mismatch(&expected.name, signature(resolve, expected), Some(found), difference))
    }

    fn difference(&self, expected: &Function, found: &ComponentFunc) -> Option<Difference> {
        let inside = |words: String| Some(Difference::Inside { words, definitions: None });
        let (wanted, given) = (expected.params.len(), found.params().len());
        if wanted != given {
            let plural = if given == 1 { "" } else { "s" };
            return inside(format!("it has {given} parameter{plural}, not {wanted}"));
        }
        for (param, (_, ty)) in expected.params.iter().zip(found.params()) {
            let place = format!("the parameter `{}`", param.name);
            if let Some(difference) = self.at(&place, param.ty, &ty) {
                return Some(difference);
            }
        }
        match (expected.result, found.results().next()) {
            (None, None) => None,
            (Some(expected), Some(found)) => self.at("the result", expected, &found),
            (None, Some(_)) => inside("it has a result, and should have none".to_owned()),
            (Some(_), None) => inside("it has no result".to_owned()),
        }
    }

    /// In words that begin with the place, where the whole of what is there differs.
    fn at(&self, place: &str, expected: Type, found: &Found) -> Option<Difference> {
        match self.types(expected, found)? {
            Difference::Whole => {
                let resolve = self.interface.resolve;
                let (wanted, given) =
                    (type_name(resolve, expected), self.names.shown(found, Some((resolve, expected))));
                let words = if wanted == given {
                    format!("{place} is `{given}` of another kind")
                } else {
                    format!("{place} is `{given}`, not `{wanted}`")
                };
                Some(Difference::Inside { words, definitions: None })
            }
            inside @ Difference::Inside { .. } => Some(inside),
        }
    }

    fn types(&self, expected: Type, found: &Found) -> Option<Difference> {
        let resolve = self.interface.resolve;
        let expected = followed(resolve, expected);
        let Type::Id(id) = expected else {
            return (!is_plain(expected, found)).then_some(Difference::Whole);
        };
        match (&resolve.types[id].kind, found) {
            (TypeDefKind::Option(expected), Found::Option(found)) => self.types(*expected, &found.ty()),
            (TypeDefKind::List(expected), Found::List(found)) => self.types(*expected, &found.ty()),
            (TypeDefKind::Tuple(expected), Found::Tuple(found)) => {
                let found = found.types();
                if expected.types.len() != found.len() {
                    return Some(Difference::Whole);
                }
                expected.types.iter().zip(found).find_map(|(expected, found)| self.types(*expected, &found))
            }
            (TypeDefKind::Result(expected), Found::Result(found)) => {
                [(expected.ok, found.ok()), (expected.err, found.err())].into_iter().find_map(|pair| match pair {
                    (None, None) => None,
                    (Some(expected), Some(found)) => self.types(expected, &found),
                    _ => Some(Difference::Whole),
                })
            }
            (TypeDefKind::Record(record), Found::Record(other)) => {
                let wanted: Vec<_> = record.fields.iter().map(|field| (field.name.as_str(), Some(field.ty))).collect();
                let given: Vec<_> = other.fields().map(|field| (field.name, Some(field.ty))).collect();
                self.members("field", expected, found, &wanted, &given)
            }
            (TypeDefKind::Variant(variant), Found::Variant(other)) => {
                let wanted: Vec<_> = variant.cases.iter().map(|case| (case.name.as_str(), case.ty)).collect();
                let given: Vec<_> = other.cases().map(|case| (case.name, case.ty)).collect();
                self.members("case", expected, found, &wanted, &given)
            }
            (TypeDefKind::Enum(names), Found::Enum(other)) => {
                let wanted: Vec<_> = names.cases.iter().map(|case| (case.name.as_str(), None)).collect();
                let given: Vec<_> = other.names().map(|name| (name, None)).collect();
                self.members("case", expected, found, &wanted, &given)
            }
            (TypeDefKind::Flags(flags), Found::Flags(other)) => {
                let wanted: Vec<_> = flags.flags.iter().map(|flag| (flag.name.as_str(), None)).collect();
                let given: Vec<_> = other.names().map(|name| (name, None)).collect();
                self.members("flag", expected, found, &wanted, &given)
            }
            _ => Some(Difference::Whole),
        }
    }

    /// Of a record, a variant, an enumeration or flags: their names, their order, then their types.
    fn members(
        &self,
        member: &str,
        expected: Type,
        found: &Found,
        wanted: &[(&str, Option<Type>)],
        given: &[(&str, Option<Found>)],
    ) -> Option<Difference> {
        let resolve = self.interface.resolve;
        let whole = type_name(resolve, expected);
        let definitions = || {
            let found = self.names.definition(found, (resolve, expected));
            definition(resolve, expected).zip(found)
        };
        let inside = |words: String| Some(Difference::Inside { words, definitions: definitions() });
        let lacks = |name: &str| !given.iter().any(|(other, _)| *other == name);
        if let Some((name, _)) = wanted.iter().find(|(name, _)| lacks(name)) {
            return inside(format!("`{whole}` lacks the {member} `{name}`"));
        }
        let is_new = |name: &str| !wanted.iter().any(|(other, _)| *other == name);
        if let Some((name, _)) = given.iter().find(|(name, _)| is_new(name)) {
            return inside(format!("`{whole}` has a {member} `{name}`, which this gateway does not know"));
        }
        if wanted.iter().zip(given).any(|((wanted, _), (given, _))| wanted != given) {
            return inside(format!("`{whole}` has its {member}s in another order"));
        }
        for ((name, wanted), (_, given)) in wanted.iter().zip(given) {
            let place = format!("the {member} `{name}` of `{whole}`");
            let difference = match (wanted, given) {
                (None, None) => continue,
                (Some(wanted), Some(given)) => self.at(&place, *wanted, given),
                (Some(_), None) => inside(format!("{place} carries nothing")),
                (None, Some(_)) => inside(format!("{place} should carry nothing")),
            };
            match difference {
                None => {}
                Some(Difference::Inside { words, definitions: None }) => return inside(words),
                Some(deeper) => return Some(deeper),
            }
        }
        None
    }
}

fn is_plain(expected: Type, found: &Found) -> bool {
    matches!(
        (expected, found),
        (Type::Bool, Found::Bool)
            | (Type::U8, Found::U8)
            | (Type::U16, Found::U16)
            | (Type::U32, Found::U32)
            | (Type::U64, Found::U64)
            | (Type::S8, Found::S8)
            | (Type::S16, Found::S16)
            | (Type::S32, Found::S32)
            | (Type::S64, Found::S64)
            | (Type::F32, Found::Float32)
            | (Type::F64, Found::Float64)
            | (Type::Char, Found::Char)
            | (Type::String, Found::String)
    )
}

#[cfg(test)]
mod tests;
