//! The program against imitated services: one that keeps dates, and one that loses them.

use super::*;
use anyhow::Error;
use dob_clients::history::{VERSIONS, date};
use dob_support::Authority;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use std::sync::{Arc, Mutex};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio_native_tls::TlsAcceptor;
use tokio_native_tls::native_tls::{self, Identity};

/// The days to each user's birthday.
type Dates = Arc<Mutex<BTreeMap<String, u16>>>;

async fn service(dates: Dates) -> Url {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            let dates = Arc::clone(&dates);
            let answer = service_fn(move |request| answer(request, Arc::clone(&dates)));
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(connection), answer));
        }
    });
    url
}

async fn answer(request: Request<Incoming>, dates: Dates) -> Result<Response<Full<Bytes>>, Error> {
    let user = request.uri().path().trim_start_matches("/hello/").to_owned();
    let (status, body) = if request.method() == Method::PUT {
        let body = String::from_utf8(request.into_body().collect().await?.to_bytes().to_vec())?;
        let saved = (0..=VERSIONS).find(|version| body.contains(&date(*version).to_string())).context("a date")?;
        // As `version` counts: from the day on which version 0 has its birthday.
        dates.lock().unwrap().insert(user, saved);
        (204, String::new())
    } else {
        match dates.lock().unwrap().get(&user) {
            Some(saved) => (200, greeting(*saved)),
            None => (404, String::new()),
        }
    };
    Ok(Response::builder().status(status).body(Full::from(body))?)
}

/// The greeting that the clients understand as this version today.
fn greeting(saved: u16) -> String {
    let today = Utc::now().date_naive();
    let greets = |days: &u16| version(&format!("in {days} day(s)"), today) == Some(saved);
    (0..=VERSIONS + 1).find(greets).map(|days| format!("Your birthday is in {days} day(s)")).expect("a day")
}

fn arguments(url: Url, command: &[&str]) -> Arguments {
    let command = command.iter().map(|word| (*word).to_owned()).collect();
    Arguments { title: "try".to_owned(), run: 0, url, command }
}

#[tokio::test]
async fn dates_that_are_kept_are_found() {
    run(&arguments(service(Dates::default()).await, &["true"])).await.unwrap();
}

#[tokio::test]
async fn a_date_that_is_lost_is_found() {
    let dates = Dates::default();
    let url = service(Arc::clone(&dates)).await;
    let arguments = arguments(url, &["sleep", "3"]);
    let lose = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        dates.lock().unwrap().clear();
        std::future::pending().await
    };
    let failed = tokio::select! { done = run(&arguments) => done, never = lose => never }.unwrap_err();
    assert!(failed.to_string().contains("acknowledged dates are lost"), "{failed:#}");
}

#[tokio::test]
async fn a_command_that_fails_fails_the_run() {
    let failed = run(&arguments(service(Dates::default()).await, &["false"])).await.unwrap_err();
    assert!(failed.to_string().contains("false failed"), "{failed:#}");
}

#[tokio::test]
async fn a_service_without_a_trusted_certificate_gets_no_request() {
    let certificate = Authority::new("nobody's").unwrap().server(&["localhost".to_owned()]).unwrap();
    let identity = Identity::from_pkcs8(certificate.certificate.as_bytes(), certificate.key.as_bytes()).unwrap();
    let acceptor = TlsAcceptor::from(native_tls::TlsAcceptor::new(identity).unwrap());
    let listener = TcpListener::bind("localhost:0").await.unwrap();
    let proxy = tls::proxy("localhost", listener.local_addr().unwrap().port()).await.unwrap();
    let calls = tokio::spawn(async move {
        let (connection, _) = listener.accept().await.unwrap();
        let mut connection = acceptor.accept(connection).await?;
        connection.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await?;
        anyhow::Ok(())
    });
    let refused = Client::builder().no_proxy().build().unwrap().get(format!("http://{proxy}/readyz")).send().await;
    assert!(refused.is_err(), "a service that nobody vouches for was believed");
    assert!(calls.await.unwrap().is_err(), "the service got a connection");
}

#[test]
fn a_report_has_every_figure() {
    let findings = Findings { acknowledged: 7, errors: [("503".to_owned(), 2)].into(), ..Findings::default() };
    let report = report::markdown("rollout", Duration::from_millis(1500), 20, &findings);
    assert!(report.starts_with("| rollout | |\n|---|---|\n| the command took | 1.5 s |\n"), "{report}");
    assert!(
        report.contains("| acknowledged dates | 7 |\n| of them lost | 0 |\n")
            && report.contains("| errors | 503 × 2 |")
    );
}
