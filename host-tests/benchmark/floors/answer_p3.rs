//! The answer of a floor on WASI 0.3. As in the component, the first write of the body has begun when the host gets the answer, so head and
//! body can leave in one TCP segment.

use spin_sdk::wasip3::http::types::{Fields, Response};
use spin_sdk::wasip3::{wit_future, wit_stream};
use std::future::{Future, poll_fn};
use std::task::Poll;

/// An answer. If the text is empty, it has no body.
pub async fn answer(status: u16, text: &'static str) -> Response {
    let (_, trailers) = wit_future::new(|| Ok(None));
    let (mut body, reader) = wit_stream::new();
    let length = [("content-length".to_owned(), text.len().to_string().into_bytes())];
    let headers = Fields::from_list(if text.is_empty() { &[] } else { &length }).unwrap_or_else(|_| Fields::new());
    let (response, _) = Response::new(headers, (!text.is_empty()).then_some(reader), trailers);
    let _ = response.set_status_code(status);
    let mut writing = Box::pin(async move { drop(body.write_all(text.into()).await) });
    if !poll_fn(|context| Poll::Ready(writing.as_mut().poll(context).is_ready())).await {
        wit_bindgen::spawn(writing);
    }
    response
}
