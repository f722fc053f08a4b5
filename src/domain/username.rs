//! The username, as it arrives in a path segment.

use std::fmt;

/// Longest username, in letters. Source: the HTTP contract. The table `birthday` checks the same limit.
pub const MAX_LETTERS: usize = 255;

/// A username of 1 to [`MAX_LETTERS`] ASCII letters.
///
/// It keeps the case of the request, which the greeting repeats. [`Username::key`] identifies the user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Username(String);

/// Why a path segment is not a username.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UsernameError {
    /// A `%` that is not followed by two hexadecimal digits.
    PercentEncoding,
    /// Something that is not an ASCII letter, after percent-decoding.
    NotALetter,
    /// No letter at all.
    Empty,
    /// More than [`MAX_LETTERS`] letters.
    TooLong,
}

impl Username {
    /// Percent-decodes a raw path segment, and accepts 1 to [`MAX_LETTERS`] ASCII letters.
    pub fn parse(segment: &str) -> Result<Self, UsernameError> {
        let mut letters = String::with_capacity(segment.len().min(MAX_LETTERS));
        let mut bytes = segment.bytes();
        while let Some(byte) = bytes.next() {
            let letter = match byte {
                b'%' => percent_encoded(&mut bytes).ok_or(UsernameError::PercentEncoding)? as char,
                _ => byte as char,
            };
            if !letter.is_ascii_alphabetic() {
                return Err(UsernameError::NotALetter);
            }
            if letters.len() == MAX_LETTERS {
                return Err(UsernameError::TooLong);
            }
            letters.push(letter);
        }
        if letters.is_empty() {
            return Err(UsernameError::Empty);
        }
        Ok(Self(letters))
    }

    /// The lower-case form, which is the same whatever the case of the request.
    pub fn key(&self) -> String {
        self.0.to_ascii_lowercase()
    }
}

/// The byte that the two hexadecimal digits after a `%` stand for.
fn percent_encoded(bytes: &mut impl Iterator<Item = u8>) -> Option<u8> {
    let mut digit = || (bytes.next()? as char).to_digit(16);
    let (high, low) = (digit()?, digit()?);
    Some((high * 16 + low) as u8)
}

impl fmt::Display for Username {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for UsernameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PercentEncoding => {
                f.write_str("The username has a '%' that is not followed by two hexadecimal digits; remove it.")
            }
            Self::NotALetter => f.write_str("The username may contain only the letters A-Z and a-z."),
            Self::Empty => f.write_str("The username is empty; put 1 to 255 letters after /hello/."),
            Self::TooLong => write!(f, "The username is longer than {MAX_LETTERS} letters; shorten it."),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_a_username_and_keep_their_case() {
        let name = Username::parse("JohnDoe").unwrap();
        assert_eq!(name.to_string(), "JohnDoe");
        assert_eq!(name.key(), "johndoe");
    }

    #[test]
    fn percent_encoded_letters_are_decoded_in_either_hex_case() {
        assert_eq!(Username::parse("%4a%4Fhn").unwrap().to_string(), "JOhn");
    }

    #[test]
    fn length_is_counted_after_decoding() {
        assert!(Username::parse(&"a".repeat(255)).is_ok());
        assert!(Username::parse(&"%61".repeat(255)).is_ok());
        assert_eq!(Username::parse(&"a".repeat(256)), Err(UsernameError::TooLong));
        assert_eq!(Username::parse(""), Err(UsernameError::Empty));
    }

    #[test]
    fn anything_but_letters_is_refused() {
        for segment in ["john1", "jo hn", "jo-hn", "%00", "%20", "%C3%A9", "é", "%2F", "..", "a+b"] {
            assert_eq!(Username::parse(segment), Err(UsernameError::NotALetter), "{segment}");
        }
    }

    #[test]
    fn malformed_percent_encoding_is_refused() {
        for segment in ["%", "%4", "a%", "%zz", "%4g", "%-1", "%+1", "%%41"] {
            assert_eq!(Username::parse(segment), Err(UsernameError::PercentEncoding), "{segment}");
        }
    }
}
