//! Answers a constant.

#![cfg(target_family = "wasm")]

#[path = "../../answer_p3.rs"]
mod answer;

use answer::answer;
use spin_sdk::wasip3::exports::http::handler::Guest;
use spin_sdk::wasip3::http::types::{ErrorCode, Request, Response};

struct Component;

spin_sdk::wasip3::http::service::export!(Component with_types_in spin_sdk::wasip3);

impl Guest for Component {
    async fn handle(_: Request) -> Result<Response, ErrorCode> {
        Ok(answer(200, "Hello").await)
    }
}
