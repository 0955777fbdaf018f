//! Serde's view of a JSON value that somebody wrote: as `serde_json`'s own, but strict with names, blind to comments, and
//! it knows where it is.
//!
//! Written here rather than taken from `serde_path_to_error` over `serde_json`: their messages are serde's, in English
//! for programmers, and only the names of a struct's fields can say which one was meant.

use serde::de::value::BorrowedStrDeserializer;
use serde::de::{
    self, DeserializeSeed, Deserializer, EnumAccess, Expected, MapAccess, SeqAccess, Unexpected, VariantAccess, Visitor,
};
use serde::forward_to_deserialize_any;
use serde_json::{Map, Value};

use super::error::{Error, kind};

/// A value in the settings.
#[derive(Clone, Copy)]
pub(super) struct Node<'de>(pub &'de Value);

impl<'de> Node<'de> {
    fn is_not(self, expected: &dyn Expected) -> Error {
        Error::wrong_type(&expected.to_string(), kind(self.0))
    }

    fn object(self, expected: &dyn Expected) -> Result<&'de Map<String, Value>, Error> {
        self.0.as_object().ok_or_else(|| self.is_not(expected))
    }
}

fn is_comment(name: &str) -> bool {
    name.starts_with('_')
}

fn without_comments(map: &Map<String, Value>) -> impl Iterator<Item = (&str, &Value)> {
    map.iter().map(|(name, value)| (name.as_str(), value)).filter(|(name, _)| !is_comment(name))
}

impl<'de> Deserializer<'de> for Node<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::Null => visitor.visit_unit(),
            Value::Bool(flag) => visitor.visit_bool(*flag),
            Value::String(text) => visitor.visit_borrowed_str(text),
            Value::Number(number) => match (number.as_u64(), number.as_i64()) {
                (Some(number), _) => visitor.visit_u64(number),
                (None, Some(number)) => visitor.visit_i64(number),
                (None, None) => visitor.visit_f64(number.as_f64().unwrap_or(f64::NAN)),
            },
            Value::Array(items) => visitor.visit_seq(Items { items: items.iter(), next: 0 }),
            Value::Object(map) => visitor.visit_map(Entries::new(map, true)),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let map = self.object(&visitor)?;
        match without_comments(map).find(|(name, _)| !fields.contains(name)) {
            Some((unknown, _)) => Err(Error::unknown("setting", unknown, fields)),
            None => visitor.visit_map(Entries::new(map, false)),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let map = self.object(&visitor)?;
        visitor.visit_map(Entries::new(map, false))
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if let Value::Array(items) = self.0 {
            return visitor.visit_seq(Items { items: items.iter(), next: 0 });
        }
        // Only an item knows what it should be.
        let plain = self.is_not(&visitor);
        match visitor.visit_seq(Probe) {
            Err(item) if item.expected_items().is_some() => {
                let expected = format!("a list of {}", item.expected_items().unwrap_or_default());
                Err(Error::wrong_type(&expected, kind(self.0)))
            }
            _ => Err(plain),
        }
    }

    /// For a plugin that takes no settings.
    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_struct("", &[], NoSettings(visitor))
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, _name: &'static str, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.0.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _name: &'static str, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.0 {
            Value::String(name) => visitor.visit_enum(Variant { name, content: None }),
            Value::Object(map) => {
                let mut entries = without_comments(map);
                let (Some((name, content)), None) = (entries.next(), entries.next()) else {
                    return Err(de::Error::custom(format_args!("expected exactly one of {}", variants.join(", "))));
                };
                if variants.contains(&name) {
                    visitor.visit_enum(Variant { name, content: Some(Node(content)) })
                } else {
                    Err(Error::unknown("setting", name, variants))
                }
            }
            _ => Err(Error::wrong_type(&format!("one of {}", variants.join(", ")), kind(self.0))),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf tuple tuple_struct identifier
        ignored_any
    }
}

struct Entries<'de> {
    map: serde_json::map::Iter<'de>,
    with_comments: bool,
    /// That of which the name was given last.
    current: Option<(&'de str, &'de Value)>,
}

impl<'de> Entries<'de> {
    fn new(map: &'de Map<String, Value>, with_comments: bool) -> Self {
        Self { map: map.iter(), with_comments, current: None }
    }
}

impl<'de> MapAccess<'de> for Entries<'de> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        let with_comments = self.with_comments;
        self.current = self
            .map
            .by_ref()
            .map(|(name, value)| (name.as_str(), value))
            .find(|(name, _)| with_comments || !is_comment(name));
        let Some((name, _)) = self.current else { return Ok(None) };
        seed.deserialize(BorrowedStrDeserializer::new(name)).map(Some).map_err(|error: Error| error.in_entry(name))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let Some((name, value)) = self.current else {
            return Err(de::Error::custom("a value was read without its name"));
        };
        seed.deserialize(Node(value)).map_err(|error| error.in_entry(name))
    }
}

struct Items<'de> {
    items: std::slice::Iter<'de, Value>,
    next: usize,
}

impl<'de> SeqAccess<'de> for Items<'de> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        let Some(item) = self.items.next() else { return Ok(None) };
        let index = self.next;
        self.next += 1;
        seed.deserialize(Node(item)).map(Some).map_err(|error| error.in_item(index))
    }
}

/// A list whose item is nothing: what it should have been stands in the error.
struct Probe;

impl<'de> SeqAccess<'de> for Probe {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        seed.deserialize(Nothing).map(Some)
    }
}

struct Nothing;

impl<'de> Deserializer<'de> for Nothing {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        Err(de::Error::invalid_type(Unexpected::Other("nothing"), &visitor))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

struct Variant<'de> {
    name: &'de str,
    content: Option<Node<'de>>,
}

impl<'de> EnumAccess<'de> for Variant<'de> {
    type Error = Error;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Error> {
        Ok((seed.deserialize(BorrowedStrDeserializer::<Error>::new(self.name))?, self))
    }
}

impl<'de> Variant<'de> {
    fn content(&self) -> Result<Node<'de>, Error> {
        let name = self.name;
        self.content.ok_or_else(|| de::Error::custom(format_args!("`{name}` wants a value: {{\"{name}\": …}}")))
    }
}

impl<'de> VariantAccess<'de> for Variant<'de> {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        match self.content {
            None => Ok(()),
            Some(_) => Err(de::Error::custom(format_args!("`{0}` takes no value: write \"{0}\"", self.name))),
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Error> {
        seed.deserialize(self.content()?).map_err(|error| error.in_entry(self.name))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _length: usize, visitor: V) -> Result<V::Value, Error> {
        self.content()?.deserialize_seq(visitor).map_err(|error| error.in_entry(self.name))
    }

    fn struct_variant<V: Visitor<'de>>(self, fields: &'static [&'static str], visitor: V) -> Result<V::Value, Error> {
        self.content()?.deserialize_struct("", fields, visitor).map_err(|error| error.in_entry(self.name))
    }
}

/// Makes an empty object of what wants to be nothing.
struct NoSettings<V>(V);

impl<'de, V: Visitor<'de>> Visitor<'de> for NoSettings<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, _map: A) -> Result<V::Value, A::Error> {
        self.0.visit_unit()
    }
}
