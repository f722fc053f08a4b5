//! An answer's body on its way out, in the worst of the orders that Spin has.
//!
//! There, a body that the component writes after it has set the response races with its head: now and then the head leaves
//! alone, and the body waits for the client's delayed acknowledgement. Here the head then always leaves alone.

use futures_util::{FutureExt, StreamExt, stream};
use http_body_util::{BodyExt, BodyStream, StreamBody};
use hyper::body::Body;
use tokio::task::{unconstrained, yield_now};
use wasmtime_wasi_http::WasiBody;

/// The body at the moment when its response is set: complete as it is, any other so that the head is sent before it.
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
    // The server sends what it has when a body has nothing for it yet.
    let nothing_yet = stream::once(yield_now()).filter_map(async |()| None);
    StreamBody::new(nothing_yet.chain(stream::iter(written)).chain(BodyStream::new(body))).boxed_unsync()
}
