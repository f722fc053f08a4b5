//! HTTP as the contract words it: routes in, answers out. Nothing here knows Spin or SQL.

mod answer;
mod body;
mod route;

pub use answer::{Answer, Problem, json_string};
pub use body::{MAX_BODY_BYTES, date_of_birth_text};
pub use route::{Method, Route};
