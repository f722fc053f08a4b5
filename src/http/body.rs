//! The body of a save: `{"dateOfBirth": "YYYY-MM-DD"}`.

use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, Visitor};
use std::{borrow::Cow, fmt, time::Duration};

/// Longest body that is read. Source: the HTTP contract.
pub const MAX_BODY_BYTES: usize = 4096;

/// How long a body may take to arrive after the request's head. A slow client occupies one of the host's instances for that time. Source:
/// the HTTP contract.
pub const BODY_WITHIN: Duration = Duration::from_secs(5);

/// The text under `dateOfBirth`, or what is wrong with the body.
pub fn date_of_birth_text(body: &[u8]) -> Result<String, &'static str> {
    let text = std::str::from_utf8(body).map_err(|_| "The body must be JSON in UTF-8.")?;
    match serde_json::from_str::<Save>(text) {
        Ok(save) => Ok(save.0),
        Err(error) if error.is_data() => {
            Err("The body must be a JSON object with one key \"dateOfBirth\" whose value is a string.")
        }
        Err(_) => Err("The body must be one JSON object, for example {\"dateOfBirth\": \"1990-05-20\"}."),
    }
}

/// Deserialized by hand, because a derived struct would also accept an array.
struct Save(String);

impl<'de> Deserialize<'de> for Save {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(SaveVisitor)
    }
}

struct SaveVisitor;

impl<'de> Visitor<'de> for SaveVisitor {
    type Value = Save;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Save, A::Error> {
        let mut date_of_birth = None;
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            if key != "dateOfBirth" {
                map.next_value::<IgnoredAny>()?;
            } else if date_of_birth.replace(map.next_value::<String>()?).is_some() {
                return Err(A::Error::duplicate_field("dateOfBirth"));
            }
        }
        date_of_birth.map(Save).ok_or_else(|| A::Error::missing_field("dateOfBirth"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_date_is_found_among_other_keys() {
        for body in [
            r#"{"dateOfBirth":"x"}"#,
            r#" { "a" : [1, {"dateOfBirth": 2}], "dateOfBirth" : "x", "b": null } "#,
            r#"{"\u0064ateOfBirth":"\u0078"}"#,
        ] {
            assert_eq!(date_of_birth_text(body.as_bytes()).as_deref(), Ok("x"), "{body}");
        }
    }

    #[test]
    fn everything_else_is_refused() {
        let nested = "[".repeat(MAX_BODY_BYTES);
        for body in [
            "",
            "{",
            "x",
            "null",
            "1",
            "\"x\"",
            r#"["x"]"#,
            "{}",
            r#"{"dateofbirth":"x"}"#,
            r#"{"dateOfBirth":1}"#,
            r#"{"dateOfBirth":null}"#,
            r#"{"dateOfBirth":["x"]}"#,
            r#"{"dateOfBirth":"x"}}"#,
            r#"{"dateOfBirth":"x"} {}"#,
            r#"{"dateOfBirth":"x","dateOfBirth":"x"}"#,
            r#"{"dateOfBirth":"x","dateOf\u0042irth":"x"}"#,
            "\u{feff}{\"dateOfBirth\":\"x\"}",
            "{'dateOfBirth':'x'}",
            &nested,
        ] {
            assert!(date_of_birth_text(body.as_bytes()).is_err(), "{body}");
        }
        assert!(date_of_birth_text(b"{\"a\":\"\xff\",\"dateOfBirth\":\"x\"}").is_err());
    }
}
