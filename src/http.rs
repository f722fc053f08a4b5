//! HTTP: routes, bodies, answers and errors, as the HTTP contract has them. Nothing here knows the host or SQL.

mod answer;
mod body;
mod problem;
mod route;

pub use answer::{Alive, Answer, Greeting, Ready, json, json_text, no_content, to_json};
pub use body::{BODY_WITHIN, MAX_BODY_BYTES, date_of_birth_text};
pub use problem::Problem;
pub use route::Route;
