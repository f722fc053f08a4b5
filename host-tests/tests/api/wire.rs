//! The wire: TCP segments, HTTP/2, and slow clients.

use crate::helpers::*;
use dob_api::http::BODY_WITHIN;
use dob_support::allow_open_files;
use futures_util::{future::join_all, stream};
use http_body_util::{BodyExt, Empty, StreamBody, combinators::UnsyncBoxBody};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use nix::libc;
use std::convert::Infallible;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

/// How many times each request is sent on its connection.
const REPEATED: u32 = 200;
/// The interval at which a slow client sends another piece of its body.
const BEAT: Duration = Duration::from_millis(250);

#[test]
fn every_answer_leaves_in_one_segment() {
    let app = TestApp::new();
    app.runtime.block_on(app.service.put("john", "1990-05-20"));
    let save = "PUT /hello/john HTTP/1.1\r\nhost: x\r\ncontent-length: 28\r\n\r\n{\"dateOfBirth\":\"1990-05-20\"}";
    for (request, status) in [
        ("GET /hello/john HTTP/1.1\r\nhost: x\r\n\r\n", "200"),
        ("HEAD /hello/john HTTP/1.1\r\nhost: x\r\n\r\n", "200"),
        ("GET /hello/nobody HTTP/1.1\r\nhost: x\r\n\r\n", "404"),
        ("GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n", "200"),
        ("GET /openapi.json HTTP/1.1\r\nhost: x\r\n\r\n", "200"),
        (save, "204"),
    ] {
        let mut client = BufReader::new(TcpStream::connect(app.service.server.address).unwrap());
        client.get_ref().set_read_timeout(Some(HANGS_AFTER)).unwrap();
        for answered in 1..=REPEATED {
            client.get_mut().write_all(request.as_bytes()).unwrap();
            assert_eq!(next_status(&mut client, request.starts_with("HEAD")), status, "{request}");
            let segments = segments_with_data(client.get_ref());
            assert_eq!(segments, answered, "segments that {answered} answers took: {request}");
        }
    }
}

/// Reads a whole answer, and returns its status.
fn next_status(client: &mut impl BufRead, is_head: bool) -> String {
    let line = |client: &mut dyn BufRead| {
        let mut line = String::new();
        client.read_line(&mut line).expect("an answer");
        line
    };
    let status = line(client).split(' ').nth(1).expect("a status").to_owned();
    let mut length = 0;
    loop {
        let header = line(client).to_ascii_lowercase();
        match header.trim_end().split_once(": ") {
            Some(("content-length", value)) if !is_head => length = value.parse().expect("a length"),
            Some(_) => {}
            None => break,
        }
    }
    client.read_exact(&mut vec![0; length]).expect("a whole body");
    status
}

/// How many TCP segments with data this connection has received.
fn segments_with_data(stream: &TcpStream) -> u32 {
    // SAFETY: the kernel writes at most `length` bytes into a plain struct of integers, for which zeros are valid.
    unsafe {
        let mut info: libc::tcp_info = std::mem::zeroed();
        let mut length = size_of_val(&info) as libc::socklen_t;
        let told = (&raw mut info).cast();
        assert_eq!(libc::getsockopt(stream.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_INFO, told, &mut length), 0);
        info.tcpi_data_segs_in
    }
}

/// An HTTP/2 connection without TLS, as with `curl --http2-prior-knowledge`.
async fn http2(service: &Service) -> SendRequest<UnsyncBoxBody<Bytes, Infallible>> {
    let stream = tokio::net::TcpStream::connect(service.server.address).await.expect("a connection");
    let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("HTTP/2");
    tokio::spawn(connection);
    sender
}

/// A request without a body.
fn bare(service: &Service, method: &str, path: &str) -> Request<UnsyncBoxBody<Bytes, Infallible>> {
    let request = Request::builder().method(method).uri(format!("{}{path}", service.server.url()));
    request.body(Empty::new().boxed_unsync()).expect("a request")
}

#[test]
fn head_over_http2_is_get_without_a_body() {
    let app = TestApp::new();
    app.runtime.block_on(async {
        let service = &app.service;
        service.put("john", "1990-05-20").await;
        let mut client = http2(service).await;
        for path in ["/hello/john", "/hello/nobody", "/healthz", "/readyz", "/openapi.json", "/nothing", "/hello/1"] {
            let get = client.send_request(bare(service, "GET", path)).await.unwrap();
            let head = client.send_request(bare(service, "HEAD", path)).await.unwrap();
            assert_eq!(head.status(), get.status(), "{path}");
            for header in ["content-length", "content-type", "cache-control"] {
                assert_eq!(head.headers().get(header), get.headers().get(header), "{header} of {path}");
            }
            let length: usize = head.headers()["content-length"].to_str().unwrap().parse().unwrap();
            assert_eq!(get.into_body().collect().await.unwrap().to_bytes().len(), length, "{path}");
            let body = head.into_body().collect().await.unwrap_or_else(|error| panic!("HEAD {path}: {error:?}"));
            assert_eq!(body.to_bytes().len(), 0, "{path}");
        }
    });
}

/// How much later than its limit a body may be refused: other tests keep the machine busy.
const GIVEN_UP_WITHIN: Duration = Duration::from_secs(2);

/// Sends an unfinished request, then another piece at every beat. Returns the answer, and after how long the server closed the
/// connection.
async fn unfinished(service: &Service, request: &str, piece: Option<&str>) -> (String, Duration) {
    let started = Instant::now();
    let stream = tokio::net::TcpStream::connect(service.server.address).await.expect("a connection");
    let (mut answers, mut requests) = stream.into_split();
    requests.write_all(request.as_bytes()).await.expect("it is taken");
    let mut answer = String::new();
    let trickle = async {
        while let Some(piece) = piece {
            tokio::time::sleep(BEAT).await;
            if requests.write_all(piece.as_bytes()).await.is_err() {
                break;
            }
        }
        std::future::pending::<()>().await
    };
    let closed = async { answers.read_to_string(&mut answer).await };
    let closed = timeout(HANGS_AFTER, async {
        tokio::select! { closed = closed => closed, () = trickle => unreachable!("it never ends") }
    });
    // A piece that the server does not read resets the connection, which also closes it.
    let _ = closed.await.expect("the server closes the connection");
    (answer, started.elapsed())
}

#[test]
fn a_body_that_does_not_arrive_is_408_and_the_connection_is_closed() {
    let app = TestApp::new();
    app.runtime.block_on(async {
        let service = &app.service;
        let head = "PUT /hello/john HTTP/1.1\r\nhost: x\r\n";
        let nothing = format!("{head}content-length: 28\r\n\r\n");
        let chunked = format!("{head}transfer-encoding: chunked\r\n\r\n1\r\n{{\r\n");
        let answers = join_all([
            unfinished(service, &nothing, None),
            unfinished(service, &nothing, Some("{")),
            unfinished(service, &chunked, None),
            unfinished(service, &chunked, Some("1\r\n \r\n")),
        ]);
        for (answer, took) in answers.await {
            assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
            assert!(answer.contains("\"title\":\"Request Timeout\""), "{answer}");
            assert!(took >= BODY_WITHIN && took < BODY_WITHIN + GIVEN_UP_WITHIN, "{took:?}: {answer}");
        }
        assert_eq!(service.log(), "", "a slow client is not a failure of the service");
        service.get("/hello/john").await.problem(404);
    });
}

#[test]
fn a_body_that_does_not_arrive_over_http2_is_408_and_ends_its_stream_only() {
    let app = TestApp::new();
    app.runtime.block_on(async {
        let service = &app.service;
        let mut client = http2(service).await;
        let never = StreamBody::new(stream::pending()).boxed_unsync();
        let unfinished = bare(service, "PUT", "/hello/john").map(|_| never);
        let answer = timeout(HANGS_AFTER, client.send_request(unfinished)).await.expect("an answer").unwrap();
        assert_eq!(answer.status(), 408);
        answer.into_body().collect().await.expect("a whole answer");
        assert_eq!(client.send_request(bare(service, "GET", "/healthz")).await.unwrap().status(), 200);
    });
}

#[test]
fn clients_that_do_not_read_their_answers_hold_no_instance() {
    let app = TestApp::new();
    allow_open_files().unwrap();
    // More than the maximum of instances.
    let unread: Vec<TcpStream> = (0..1100)
        .map(|_| {
            let mut client = TcpStream::connect(app.service.server.address).unwrap();
            client.write_all(b"GET /openapi.json HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
            client
        })
        .collect();
    for mut client in &unread {
        // One byte of each answer shows that there is one; the rest stays unread.
        client.read_exact(&mut [0]).unwrap();
    }
    app.runtime.block_on(async { assert_eq!(app.service.get("/healthz").await.status, 200) });
}
