//! HTTP: converts the host's requests and the service's answers.

use crate::clock::within;
use ::http::{HeaderName, HeaderValue, Method};
use dob_api::host::{BodyError, Request};
use dob_api::http::Answer;
use spin_sdk::wasip3::http::types::{self, Fields, Response};
use spin_sdk::wasip3::{wit_future, wit_stream};
use std::cell::{OnceCell, RefCell};
use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;
use wit_bindgen::StreamResult;

/// A request, with its body still unread.
pub struct Incoming {
    method: Method,
    path_with_query: String,
    /// `None` once the body was taken.
    request: RefCell<Option<types::Request>>,
    headers: OnceCell<Fields>,
}

impl Incoming {
    /// Wraps a request of the host.
    pub fn new(method: Method, request: types::Request) -> Self {
        let path_with_query = request.get_path_with_query().unwrap_or_default();
        Self { method, path_with_query, request: RefCell::new(Some(request)), headers: OnceCell::new() }
    }

    fn headers(&self) -> &Fields {
        let read = || self.request.borrow().as_ref().map_or_else(Fields::new, types::Request::get_headers);
        self.headers.get_or_init(read)
    }
}

impl Request for Incoming {
    fn method(&self) -> &Method {
        &self.method
    }

    fn path_with_query(&self) -> &str {
        &self.path_with_query
    }

    fn header(&self, name: &HeaderName) -> Option<String> {
        self.headers().get(name.as_str()).pop().and_then(|value| String::from_utf8(value).ok())
    }

    async fn body(&self, limit: usize, time: Duration) -> Result<Vec<u8>, BodyError> {
        // Taking the body consumes the request, so the headers are read first.
        self.headers();
        let request = self.request.take().ok_or(BodyError::Broken)?;
        within(time, body(request, limit)).await.ok_or(BodyError::Late)?
    }
}

/// Reads the body, up to one byte more than `limit`.
async fn body(request: types::Request, limit: usize) -> Result<Vec<u8>, BodyError> {
    let (_, taken) = wit_future::new(|| Ok(()));
    let (mut stream, end) = types::Request::consume_body(request, taken);
    let mut body = Vec::with_capacity(limit + 1);
    while body.len() <= limit {
        let (result, more) = stream.read(body).await;
        body = more;
        if result == StreamResult::Dropped {
            return end.await.map(|_| body).map_err(|_| BodyError::Broken);
        }
    }
    Ok(body)
}

/// The method's name.
pub fn method_of(request: &types::Request) -> String {
    match request.get_method() {
        types::Method::Get => "GET".to_owned(),
        types::Method::Head => "HEAD".to_owned(),
        types::Method::Post => "POST".to_owned(),
        types::Method::Put => "PUT".to_owned(),
        types::Method::Delete => "DELETE".to_owned(),
        types::Method::Connect => "CONNECT".to_owned(),
        types::Method::Options => "OPTIONS".to_owned(),
        types::Method::Trace => "TRACE".to_owned(),
        types::Method::Patch => "PATCH".to_owned(),
        types::Method::Other(method) => method,
    }
}

/// The answer for the host. The body's first write begins before the host gets it. Spin uses Nagle's algorithm, so a body that follows its
/// head would wait for the client's delayed acknowledgement.
pub async fn response(answer: Answer) -> Response {
    let text = |(name, value): (&HeaderName, &HeaderValue)| (name.to_string(), value.as_bytes().to_vec());
    let headers: Vec<_> = answer.headers().iter().map(text).collect();
    let headers = Fields::from_list(&headers).unwrap_or_else(|_| Fields::new());
    let status = answer.status().as_u16();
    let body = answer.into_body().into_owned().into_bytes();
    let (_, trailers) = wit_future::new(|| Ok(None));
    // Without a body, the response ends after its head, whatever length that declares. This is how HEAD is answered.
    if body.is_empty() {
        let (response, _) = Response::new(headers, None, trailers);
        let _ = response.set_status_code(status);
        return response;
    }
    let (mut writer, reader) = wit_stream::new();
    let (response, _) = Response::new(headers, Some(reader), trailers);
    let _ = response.set_status_code(status);
    // The write fails if the client has left, and then nobody needs the rest.
    let mut writing = Box::pin(async move { drop(writer.write_all(body).await) });
    let written = poll_fn(|context| Poll::Ready(writing.as_mut().poll(context).is_ready())).await;
    if !written {
        wit_bindgen::spawn(writing);
    }
    response
}
