//! Every name and value in a JSON text, without building it: a map would forget all but the last of equal names.

use std::fmt::{self, Display};

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use super::secrecy::is_suspect;

pub enum Part<'a> {
    Name(&'a str),
    /// A string unquoted, or a number. `is_secret`: somewhere above it is a name that speaks of a secret.
    Value {
        text: &'a str,
        is_secret: bool,
    },
}

/// Tells `found` of every part, in their order. False: it is no JSON text, or is nested too deep (128 levels); what was
/// found before is told all the same.
pub fn walk(text: &str, is_secret: bool, found: &mut dyn FnMut(Part<'_>)) -> bool {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    Walk { is_secret, found }.deserialize(&mut deserializer).and_then(|()| deserializer.end()).is_ok()
}

struct Walk<'a> {
    is_secret: bool,
    found: &'a mut dyn FnMut(Part<'_>),
}

impl Walk<'_> {
    fn number(self, number: impl Display) {
        (self.found)(Part::Value { text: &number.to_string(), is_secret: self.is_secret });
    }
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("any JSON")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, number: i64) -> Result<(), E> {
        self.number(number);
        Ok(())
    }

    fn visit_u64<E>(self, number: u64) -> Result<(), E> {
        self.number(number);
        Ok(())
    }

    fn visit_f64<E>(self, number: f64) -> Result<(), E> {
        self.number(number);
        Ok(())
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        (self.found)(Part::Value { text, is_secret: self.is_secret });
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while items.next_element_seed(Walk { is_secret: self.is_secret, found: &mut *self.found })?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        while let Some(name) = members.next_key::<String>()? {
            (self.found)(Part::Name(&name));
            let is_secret = self.is_secret || is_suspect(&name);
            members.next_value_seed(Walk { is_secret, found: &mut *self.found })?;
        }
        Ok(())
    }
}
