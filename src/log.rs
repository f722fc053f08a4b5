//! The log: one line of JSON on stderr for every answer of class 5xx.

use crate::{config::Config, http::json_string, store::Failure};
use std::hash::{BuildHasher, RandomState};
use std::io::{Write, stderr};

/// Longest request id that is taken over from a client, in bytes.
const MAX_REQUEST_ID: usize = 64;

/// The client's `x-request-id` where it is short and plain, else one of our own.
pub fn request_id(from_client: Option<String>) -> String {
    let is_plain = |id: &String| {
        (1..=MAX_REQUEST_ID).contains(&id.len())
            && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    };
    // The standard library seeds its hasher at random: enough to tell requests apart, and one import fewer.
    from_client.filter(is_plain).unwrap_or_else(|| format!("{:016x}", RandomState::new().hash_one(0)))
}

/// Writes what failed. The host's and the server's words are cut and stripped of the configured passwords.
pub fn failure(request_id: &str, method: &str, route: &str, status: u16, failure: &Failure, config: &Config) {
    // Not eprintln!, which panics where the line can't be written: the client still gets its answer.
    let _ = writeln!(
        stderr(),
        r#"{{"level":"error","request_id":"{request_id}","method":{},"route":"{route}","status":{status},"failed":"{}","sqlstate":{},"message":{}}}"#,
        json_string(method),
        failure.step,
        failure.sqlstate.as_deref().map_or("null".to_owned(), json_string),
        json_string(&config.redact(&failure.message)),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_request_id_is_kept_and_any_other_replaced() {
        assert_eq!(request_id(Some("abc-1.2_3".to_owned())), "abc-1.2_3");
        for id in [None, Some(""), Some("a b"), Some("a\"b"), Some(&*"a".repeat(65))] {
            let made = request_id(id.map(str::to_owned));
            assert_eq!(made.len(), 16, "{id:?}");
            assert_ne!(made, request_id(None));
        }
    }
}
