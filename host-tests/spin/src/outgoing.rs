//! The body of an outgoing answer, in the worst order that Spin produces.
//!
//! In Spin, a body that the component writes after it has set the response races with its head. Sometimes the head leaves alone, and
//! the body waits for the client's delayed acknowledgement. Here such a head always leaves alone.

use futures_util::{FutureExt, StreamExt, stream};
use http_body_util::{BodyExt, BodyStream, StreamBody};
use hyper::body::Body;
use tokio::task::{unconstrained, yield_now};
use wasmtime_wasi_http::WasiBody;

/// Wraps the body of a response that was just set: a complete body stays as it is, any other is sent after its head.
pub fn head_first(mut body: WasiBody) -> WasiBody {
    if body.is_end_stream() {
        return body;
    }
    let mut written = Vec::new();
    while let Some(next) = unconstrained(body.frame()).now_or_never() {
        match next {
            Some(frame) => written.push(frame),
            None => return StreamBody::new(stream::iter(written)).boxed_unsync(),
        }
    }
    // The server flushes the head when the body is not ready yet.
    let nothing_yet = stream::once(yield_now()).filter_map(async |()| None);
    StreamBody::new(nothing_yet.chain(stream::iter(written)).chain(BodyStream::new(body))).boxed_unsync()
}
