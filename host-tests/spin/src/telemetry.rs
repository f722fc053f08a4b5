//! The span of each request, exported as Spin exports it. Spin also exports spans of the component and of its statements, which no metric
//! is made from.

use anyhow::Result;
use http::{HeaderMap, Request, Response};
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::{Span, SpanKind, Tracer, TracerProvider};
use opentelemetry::{Context, KeyValue};
use opentelemetry_http::{HeaderExtractor, hyper::HyperClient};
use opentelemetry_otlp::{SpanExporter, WithHttpConfig};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::span_processor_with_async_runtime::BatchSpanProcessor;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider, Span as SdkSpan};
use opentelemetry_sdk::{Resource, runtime};
use std::time::Duration;

/// The variables that name the collector. The exporter reads them, too.
const ENDPOINTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"];
/// How long the collector may take to accept a batch of spans.
const EXPORT_DEADLINE: Duration = Duration::from_secs(10);
/// Spin's name for the span of a request until it has a route.
const NO_ROUTE: &str = "spin_trigger_http.handle_http_request";
const ROUTE: &str = "/...";

/// Starts spans if the environment names a collector. Spans that the collector does not accept are dropped silently. So are those that wait
/// for the next batch when the process ends.
#[derive(Clone, Default)]
pub(crate) struct Telemetry(Option<SdkTracer>);

/// The span of a request that is being answered. Dropping it exports it. The span of a cancelled request has no status.
pub(crate) struct RequestSpan(Option<SdkSpan>);

impl Telemetry {
    /// Reads the environment; needs a Tokio runtime.
    pub fn from_environment() -> Result<Self> {
        if ENDPOINTS.iter().all(|name| std::env::var_os(name).is_none()) {
            return Ok(Self::default());
        }
        let client = HyperClient::with_default_connector(EXPORT_DEADLINE, None);
        let exporter = SpanExporter::builder().with_http().with_http_client(client).build()?;
        let provider = SdkTracerProvider::builder()
            .with_span_processor(BatchSpanProcessor::builder(exporter, runtime::Tokio).build())
            .with_resource(Resource::builder().with_service_name("spin").build())
            .build();
        Ok(Self(Some(provider.tracer("spin"))))
    }

    /// Starts a request's span. The client's `traceparent` is its parent, and may ask that the span is not recorded.
    pub fn start<B>(&self, request: &Request<B>) -> RequestSpan {
        RequestSpan(self.0.as_ref().map(|tracer| {
            let attributes = [
                KeyValue::new("http.request.method", request.method().to_string()),
                KeyValue::new("url.path", request.uri().path().to_owned()),
            ];
            let span = tracer.span_builder(NO_ROUTE).with_kind(SpanKind::Server).with_attributes(attributes);
            span.start_with_context(tracer, &parent(request.headers()))
        }))
    }
}

impl RequestSpan {
    /// Adds the route and the status of the answer to the span.
    pub fn answered<B>(&mut self, method: &http::Method, response: &Response<B>) {
        let Some(span) = &mut self.0 else { return };
        span.update_name(format!("{method} {ROUTE}"));
        span.set_attribute(KeyValue::new("http.route", ROUTE));
        span.set_attribute(KeyValue::new("http.response.status_code", i64::from(response.status().as_u16())));
    }
}

fn parent(headers: &HeaderMap) -> Context {
    TraceContextPropagator::new().extract_with_context(&Context::new(), &HeaderExtractor(headers))
}
