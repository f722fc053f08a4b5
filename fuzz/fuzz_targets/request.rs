//! Parses arbitrary bytes as the path and body of a request. Nothing may panic, and only what the contract allows may be accepted.
//!
//! The input's first line is the path with its query. The rest is the body.

#![no_main]

use chrono::NaiveDate;
use dob_api::domain::{DateOfBirth, Username, username::MAX_LETTERS};
use dob_api::http::{Route, date_of_birth_text};
use libfuzzer_sys::fuzz_target;

/// A leap day. Every date of birth must be before it.
const TODAY: (i32, u32, u32) = (2024, 2, 29);

fuzz_target!(|input: &[u8]| {
    let end = input.iter().position(|byte| *byte == b'\n').unwrap_or(input.len());
    let (path, rest) = input.split_at(end);
    let body = rest.strip_prefix(b"\n").unwrap_or(rest);
    // The host passes a path on only when it is text.
    if let Ok(path) = std::str::from_utf8(path) {
        check_path(path);
    }
    check_body(body);
});

fn check_path(path_with_query: &str) {
    let Some(route) = Route::parse(path_with_query) else { return };
    assert!(route.allow().starts_with("GET, HEAD, "));
    let Route::Hello(segment) = route else {
        assert!(path_with_query.starts_with(route.template()));
        return;
    };
    assert!(!segment.contains(['/', '?']));
    if let Ok(user) = Username::parse(segment) {
        check_username(&user);
    }
}

fn check_username(user: &Username) {
    let (shown, key) = (user.to_string(), user.key());
    assert!((1..=MAX_LETTERS).contains(&shown.len()));
    assert!(shown.bytes().all(|byte| byte.is_ascii_alphabetic()));
    assert!(key.bytes().all(|byte| byte.is_ascii_lowercase()));
    assert!(key.eq_ignore_ascii_case(&shown));
    assert_eq!(Username::parse(&shown).as_ref(), Ok(user), "a username is its own spelling");
    assert_eq!(Username::parse(&key).map(|lower| lower.key()), Ok(key), "the key identifies the same user");
}

fn check_body(body: &[u8]) {
    let text = date_of_birth_text(body);
    if text.is_ok() {
        let object = body.trim_ascii();
        assert!(object.starts_with(b"{") && object.ends_with(b"}"));
    }
    if let Ok(text) = text {
        check_date(&text);
    }
    // Most inputs are not JSON, so the bytes are also tried as a bare date.
    if let Ok(text) = std::str::from_utf8(body) {
        check_date(text);
    }
}

fn check_date(text: &str) {
    let (year, month, day) = TODAY;
    let today = NaiveDate::from_ymd_opt(year, month, day).expect("a day");
    let Ok(born) = DateOfBirth::parse(text, today) else { return };
    let (year, month, day) = born.year_month_day();
    assert_eq!(format!("{year:04}-{month:02}-{day:02}"), text);
    assert!(year >= 1 && (year, month, day) < TODAY);
    assert_eq!(DateOfBirth::stored(year, month, day), Some(born), "an accepted date comes back from the database");
}
