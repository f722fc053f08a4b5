//! Answers a constant.

use spin_sdk::http::{Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam};
use spin_sdk::http_component;

#[http_component]
fn handle(_: IncomingRequest, out: ResponseOutparam) {
    let response = OutgoingResponse::new(Fields::new());
    if let Ok(body) = response.body() {
        if let Ok(stream) = body.write() {
            let _ = stream.blocking_write_and_flush(b"Hello");
        }
        let _ = OutgoingBody::finish(body, None);
    }
    out.set(response);
}
