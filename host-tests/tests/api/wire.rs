//! Answers as they are on the wire: in segments, and over HTTP/2.

use crate::helpers::*;
use http_body_util::{BodyExt, Empty, combinators::UnsyncBoxBody};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use nix::libc;
use std::convert::Infallible;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::os::fd::AsRawFd;

/// How often each request is sent on its connection.
const REPEATED: u32 = 200;

#[test]
fn every_answer_leaves_in_one_segment() {
    let world = World::new();
    world.runtime.block_on(world.service.put("john", "1990-05-20"));
    let save = "PUT /hello/john HTTP/1.1\r\nhost: x\r\ncontent-length: 28\r\n\r\n{\"dateOfBirth\":\"1990-05-20\"}";
    for (request, status) in [
        ("GET /hello/john HTTP/1.1\r\nhost: x\r\n\r\n", "200"),
        ("HEAD /hello/john HTTP/1.1\r\nhost: x\r\n\r\n", "200"),
        ("GET /hello/nobody HTTP/1.1\r\nhost: x\r\n\r\n", "404"),
        ("GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n", "200"),
        ("GET /openapi.json HTTP/1.1\r\nhost: x\r\n\r\n", "200"),
        (save, "204"),
    ] {
        let mut client = BufReader::new(TcpStream::connect(world.service.server.address).unwrap());
        client.get_ref().set_read_timeout(Some(HANGS_AFTER)).unwrap();
        for answered in 1..=REPEATED {
            client.get_mut().write_all(request.as_bytes()).unwrap();
            assert_eq!(next_status(&mut client, request.starts_with("HEAD")), status, "{request}");
            let segments = segments_with_data(client.get_ref());
            assert_eq!(segments, answered, "segments that {answered} answers took: {request}");
        }
    }
}

/// Reads an answer to its end, and gives its status.
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

/// How many TCP segments with data have come in on this connection.
fn segments_with_data(stream: &TcpStream) -> u32 {
    // SAFETY: the kernel writes at most `length` bytes into a plain struct of numbers, for which zeros are values.
    unsafe {
        let mut info: libc::tcp_info = std::mem::zeroed();
        let mut length = size_of_val(&info) as libc::socklen_t;
        let told = (&raw mut info).cast();
        assert_eq!(libc::getsockopt(stream.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_INFO, told, &mut length), 0);
        info.tcpi_data_segs_in
    }
}

/// A connection of HTTP/2 without TLS, as `curl --http2-prior-knowledge` makes it.
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
    let world = World::new();
    world.runtime.block_on(async {
        let service = &world.service;
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
