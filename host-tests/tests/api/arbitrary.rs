//! Arbitrary requests: none crashes the component, and every accepted date is greeted correctly.

use crate::helpers::*;
use crate::oracle::{Date, date_of, day_number, days_in_month, days_until_birthday};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, RngSeed, TestCaseResult, TestError, TestRunner};
use std::fmt;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// A body without its last brace.
const DATED: &str = r#"{"dateOfBirth":"1990-05-20""#;

/// The bytes that path and query may contain (RFC 3986), and `%` with anything after it.
const URI_BYTES: &[u8] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~!$&'()*+,;=:@/?%";

#[test]
fn no_request_makes_the_component_fail() {
    let app = TestApp::new();
    check(3000, request(), |request| app.runtime.block_on(answers_or_refuses(&app.service, &request)));
    assert_eq!(app.service.log(), "", "a panic, a trap or a failure");
}

#[test]
fn a_saved_date_comes_back_as_the_days_to_its_birthday() {
    let app = TestApp::new();
    check(500, birthday(), |birthday| app.runtime.block_on(is_greeted(&app.service, &birthday)));
    assert_eq!(app.service.log(), "", "a panic, a trap or a failure");
}

/// Runs a property on the same arbitrary values each time, and reports the smallest counterexample.
fn check<S: Strategy>(cases: u32, values: S, property: impl Fn(S::Value) -> TestCaseResult) {
    let config = Config { cases, rng_seed: RngSeed::Fixed(1), failure_persistence: None, ..Config::default() };
    match TestRunner::new(config).run(&values, property) {
        Ok(()) => {}
        Err(TestError::Fail(reason, value)) => panic!("{reason}\n{value:?}"),
        Err(TestError::Abort(reason)) => panic!("{reason}"),
    }
}

/// A request as it is sent.
#[derive(Clone)]
struct RawRequest {
    head: Vec<u8>,
    body: Vec<u8>,
    /// Whether this is valid HTTP, so that the component must answer it.
    is_http: bool,
    /// Whether the body is shorter than announced.
    breaks_off: bool,
}

impl fmt::Debug for RawRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.head.escape_ascii(), self.body.escape_ascii())
    }
}

fn request() -> impl Strategy<Value = RawRequest> {
    (method(), target(), vec(header(), 0..6), body(), framing()).prop_map(
        |(method, (target, is_http), headers, body, framing)| {
            let (framing_header, body) = framing.apply(body);
            let mut head = [method.as_bytes(), b" ", &target, b" HTTP/1.1\r\n"].concat();
            // Without an authority the host closes the connection and does not call the component.
            head.extend(b"host: localhost\r\nconnection: close\r\n");
            head.extend(headers.concat());
            head.extend(framing_header.into_bytes());
            head.extend(b"\r\n");
            let breaks_off = matches!(framing, Framing::TooLong | Framing::NoChunks);
            RawRequest { head, body, is_http: is_http && !breaks_off, breaks_off }
        },
    )
}

fn method() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => Just("PUT".to_owned()),
        3 => Just("GET".to_owned()),
        3 => select(vec!["HEAD", "OPTIONS", "DELETE", "POST", "PATCH", "TRACE"]).prop_map(str::to_owned),
        1 => "[a-zA-Z!#$%&'*+.^_`|~0-9-]{1,20}",
    ]
}

/// A request target, and whether it is valid HTTP.
fn target() -> impl Strategy<Value = (Vec<u8>, bool)> {
    let uri = |length| vec(select(URI_BYTES), length);
    let letter = b'A'..=b'Z';
    let hello = |rest: Vec<u8>| [b"/hello/".as_slice(), &rest].concat();
    let path = prop_oneof![
        4 => "[abAB]{1,2}".prop_map(move |name| hello(name.into_bytes())),
        2 => percent_encoded(any::<u8>(), 0..40).prop_map(move |junk| hello(junk.into_bytes())),
        2 => percent_encoded(letter, 240..270).prop_map(move |name| hello(name.into_bytes())),
        2 => uri(0..30).prop_map(hello),
        1 => uri(0..3000).prop_map(hello),
        1 => (0..300usize).prop_map(move |depth| hello(b"a/".repeat(depth))),
        2 => uri(0..60).prop_map(|rest| [b"/".as_slice(), &rest].concat()),
        1 => (select(vec!["/healthz", "/openapi.json", "/hello", "/hello/"]), uri(0..4))
            .prop_map(|(known, rest)| [known.as_bytes(), &rest].concat()),
    ];
    let bytes = prop_oneof![vec(any::<u8>(), 0..60), vec(any::<u8>(), 0..60).prop_map(hello)];
    prop_oneof![6 => path.prop_map(|path| (path, true)), 1 => bytes.prop_map(|bytes| (bytes, false))]
}

/// Bytes, each either percent-encoded or, if it is a letter, plain.
fn percent_encoded(byte: impl Strategy<Value = u8>, length: std::ops::Range<usize>) -> impl Strategy<Value = String> {
    vec((byte, any::<bool>()), length)
        .prop_map(|bytes| bytes.into_iter().map(|(byte, plain)| spell(byte, plain)).collect())
}

fn spell(byte: u8, plain: bool) -> String {
    if plain && byte.is_ascii_alphabetic() { (byte as char).to_string() } else { format!("%{byte:02x}") }
}

/// A header line. It does not concern the connection, and its value is UTF-8, because the host answers 500 to any other.
fn header() -> impl Strategy<Value = Vec<u8>> {
    let known =
        select(vec!["x-request-id", "content-type", "accept", "cookie", "range", "if-none-match", "x-forwarded-for"]);
    let name = prop_oneof![known.prop_map(str::to_owned), "x-[a-zA-Z!#$%&'*+.^_`|~0-9-]{0,30}"];
    let value = prop_oneof!["[\t\x20-\x7e]{0,60}", "[\\PC&&[^\u{0}-\u{1f}\u{7f}]]{0,60}"];
    (name, value).prop_map(|(name, value)| format!("{name}: {value}\r\n").into_bytes())
}

fn body() -> impl Strategy<Value = Vec<u8>> {
    let date = prop_oneof!["[01][0-9]{3}-(0[1-9]|1[0-2])-[0-2][1-9]", "[0-9]{4}-[0-9]{2}-[0-9]{2}", "\\PC{0,12}"];
    prop_oneof![
        2 => vec(any::<u8>(), 0..200),
        1 => vec(any::<u8>(), 4000..6000),
        3 => date.prop_map(|date| format!("{{\"dateOfBirth\":\"{date}\"}}").into_bytes()),
        2 => "[{}\\[\\]\",:\\\\ue0-9. a]{0,60}".prop_map(String::into_bytes),
        1 => (4000..4200usize).prop_map(|spaces| format!("{DATED}{:spaces$}}}", "").into_bytes()),
        1 => (0..4200usize).prop_map(|depth| "[".repeat(depth).into_bytes()),
    ]
}

/// How the end of a body is marked.
#[derive(Debug, Clone, Copy)]
enum Framing {
    /// Not at all: for HTTP it is then the next request.
    Nothing,
    /// A correct `Content-Length`.
    Length,
    /// Chunks of this many bytes.
    Chunks(usize),
    /// A `Content-Length` that exceeds the body.
    TooLong,
    /// `chunked`, but the body is not.
    NoChunks,
}

fn framing() -> impl Strategy<Value = Framing> {
    prop_oneof![
        1 => Just(Framing::Nothing),
        4 => Just(Framing::Length),
        2 => (1..2000usize).prop_map(Framing::Chunks),
        1 => Just(Framing::TooLong),
        1 => Just(Framing::NoChunks),
    ]
}

impl Framing {
    /// The header line for a body, and the encoded body.
    fn apply(self, body: Vec<u8>) -> (String, Vec<u8>) {
        match self {
            Self::Nothing => (String::new(), body),
            Self::Length => (format!("content-length: {}\r\n", body.len()), body),
            Self::TooLong => (format!("content-length: {}\r\n", body.len() + 1), body),
            Self::NoChunks => ("transfer-encoding: chunked\r\n".to_owned(), body),
            Self::Chunks(size) => ("transfer-encoding: chunked\r\n".to_owned(), chunked(&body, size)),
        }
    }
}

fn chunked(body: &[u8], size: usize) -> Vec<u8> {
    let chunk = |chunk: &[u8]| [format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat();
    let mut chunks: Vec<u8> = body.chunks(size).flat_map(chunk).collect();
    chunks.extend(b"0\r\n\r\n");
    chunks
}

/// Sends the request and checks the answer.
async fn answers_or_refuses(service: &Service, request: &RawRequest) -> TestCaseResult {
    let bytes = timeout(HANGS_AFTER, exchange(service.server.address, request)).await;
    let bytes = bytes.map_err(|_| TestCaseError::fail("the connection hangs"))?;
    let Some(answer) = RawAnswer::parse(&bytes) else {
        prop_assert!(!request.is_http, "no answer to a valid request: {}", bytes.escape_ascii());
        return Ok(());
    };
    prop_assert!((200..500).contains(&answer.status), "{}", bytes.escape_ascii());
    let is_the_hosts_own = answer.status == 400 && answer.header("content-length") == Some("0");
    if request.is_http || !is_the_hosts_own {
        answer.is_as_the_contract_says(request.head.starts_with(b"HEAD "))?;
    }
    Ok(())
}

/// The server's output until it closes the connection, which may happen before it has read everything.
async fn exchange(server: SocketAddr, request: &RawRequest) -> Vec<u8> {
    let mut stream = TcpStream::connect(server).await.expect("the server listens");
    let _ = stream.write_all(&[request.head.as_slice(), &request.body].concat()).await;
    if request.breaks_off {
        let _ = stream.shutdown().await;
    }
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    answer
}

/// A parsed answer.
struct RawAnswer<'a> {
    status: u16,
    headers: Vec<(&'a str, &'a str)>,
    body: &'a str,
}

impl<'a> RawAnswer<'a> {
    fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (head, body) = std::str::from_utf8(bytes).ok()?.split_once("\r\n\r\n")?;
        let mut lines = head.lines();
        let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let headers = lines.map(|line| line.split_once(": ")).collect::<Option<_>>()?;
        Some(Self { status, headers, body })
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| *value)
    }

    fn is_as_the_contract_says(&self, is_head: bool) -> TestCaseResult {
        prop_assert_eq!(self.header("cache-control"), Some("no-store"));
        prop_assert_eq!(self.header("x-content-type-options"), Some("nosniff"));
        if self.status >= 400 {
            prop_assert_eq!(self.header("content-type"), Some("application/problem+json"));
        }
        // A component that traps while it sends leaves a truncated body.
        let length = self.header("content-length").map_or(Ok(0), str::parse::<usize>);
        prop_assert_eq!(Ok(self.body.len()), if is_head { Ok(0) } else { length });
        Ok(())
    }
}

/// A user whose name two requests spell differently, with the date of birth and a later day.
#[derive(Debug, Clone)]
struct Birthday {
    /// For each letter, when saved and when greeted: whether it is in upper case, and whether it is percent-encoded.
    name: Vec<(char, Spelling, Spelling)>,
    born: Date,
    /// In days since 0001-01-01.
    today: i64,
}

type Spelling = (bool, bool);

/// Birthdays in all years, every fifth on 29 February, with a day from just before an anniversary to a year after it.
fn birthday() -> impl Strategy<Value = Birthday> {
    let spelling = any::<Spelling>;
    let name = vec((proptest::char::range('a', 'z'), spelling(), spelling()), 1..=255);
    let month_day = prop_oneof![4 => (1..=12u32, 1..=31u32), 1 => Just((2, 29))];
    let later = prop_oneof![1 => -2..=2i64, 1 => -2..=366i64];
    let years = (1..=9990i64).prop_flat_map(|born| (Just(born), 1971.max(born + 1)..=9998));
    (name, years, month_day, later).prop_map(|(name, (year, this_year), (month, day), later)| {
        let existing = |year| (year, month, day.min(days_in_month(year, month)));
        Birthday { name, born: existing(year), today: day_number(existing(this_year)) + later }
    })
}

async fn is_greeted(service: &Service, birthday: &Birthday) -> TestCaseResult {
    let write = |(letter, (upper, _)): (char, Spelling)| if upper { letter.to_ascii_uppercase() } else { letter };
    let encode = |written: (char, Spelling)| spell(write(written) as u8, written.1.1);
    let name = &birthday.name;
    let saved: String = name.iter().map(|(letter, saved, _)| encode((*letter, *saved))).collect();
    let asked: String = name.iter().map(|(letter, _, asked)| encode((*letter, *asked))).collect();
    let shown: String = name.iter().map(|(letter, _, asked)| write((*letter, *asked))).collect();
    let (year, month, day) = birthday.born;
    service.clock.set_day(birthday.today - day_number((1970, 1, 1)));
    let answer = service.put(&saved, &format!("{year:04}-{month:02}-{day:02}")).await;
    prop_assert_eq!(answer.status, 204, "{:?}", answer);
    let answer = service.get(&format!("/hello/{asked}")).await;
    prop_assert_eq!(answer.status, 200, "{:?}", answer);
    prop_assert_eq!(&answer.json()["message"], &expected(&shown, birthday.born, birthday.today));
    Ok(())
}

/// The expected greeting, whose days are counted one by one.
fn expected(name: &str, born: Date, today: i64) -> String {
    match days_until_birthday(born, date_of(today)) {
        0 => format!("Hello, {name}! Happy birthday!"),
        days => format!("Hello, {name}! Your birthday is in {days} day(s)"),
    }
}
