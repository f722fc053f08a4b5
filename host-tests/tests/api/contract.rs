//! The rows of the HTTP contract, with one test for each.

use crate::helpers::*;
use crate::oracle::days_since_1970;
use serde_json::json;

/// The day of the clock in scenarios that need a fixed one.
const TODAY: (i64, u32, u32) = (2026, 5, 20);

/// Runs a scenario with a new service and database.
fn with_app<F: AsyncFnOnce(&Service, &dob_postgresql::Database)>(test: F) {
    let app = TestApp::new();
    app.runtime.block_on(test(&app.service, &app.database));
}

#[test]
fn a_saved_date_is_greeted_until_it_is_changed() {
    with_app(async |service, _| {
        service.clock.set_day(days_since_1970(TODAY));
        let saved = service.put("John", "1990-05-20").await;
        assert_eq!((saved.status, saved.body.as_str()), (204, ""));
        let greeted = service.get("/hello/John").await;
        assert_eq!(greeted.status, 200);
        assert_eq!(greeted.header("content-type"), Some("application/json"));
        assert_eq!(greeted.body, r#"{"message":"Hello, John! Happy birthday!"}"#);

        assert_eq!(service.put("John", "1990-05-22").await.status, 204);
        assert_eq!(service.get("/hello/John").await.body, r#"{"message":"Hello, John! Your birthday is in 2 day(s)"}"#);
    });
}

#[test]
fn saving_the_same_date_again_writes_no_row_version() {
    with_app(async |service, database| {
        let superuser = database.client("dob_api").await.unwrap();
        let version = "SELECT xmin::text || ctid::text || updated_at::text FROM dob_api.birthday";
        service.put("john", "1990-05-20").await;
        let before: String = superuser.query_one(version, &[]).await.unwrap().get(0);
        let wal = "SELECT pg_current_wal_insert_lsn()::text";
        let wal_before: String = superuser.query_one(wal, &[]).await.unwrap().get(0);
        assert_eq!(service.put("JOHN", "1990-05-20").await.status, 204);
        let wal_after: String = superuser.query_one(wal, &[]).await.unwrap().get(0);
        let after: String = superuser.query_one(version, &[]).await.unwrap().get(0);
        assert_eq!(before, after);
        assert_eq!(wal_before, wal_after, "no WAL is written");

        service.put("john", "1990-05-21").await;
        let changed: String = superuser.query_one(version, &[]).await.unwrap().get(0);
        assert_ne!(before, changed);
    });
}

#[test]
fn a_username_is_one_identity_whatever_its_case() {
    with_app(async |service, _| {
        service.clock.set_day(days_since_1970(TODAY));
        service.put("jOHN", "1990-05-21").await;
        for name in ["John", "JOHN", "john"] {
            let expected = format!(r#"{{"message":"Hello, {name}! Your birthday is in 1 day(s)"}}"#);
            assert_eq!(service.get(&format!("/hello/{name}")).await.body, expected);
        }
        assert_eq!(
            service.get("/hello/%4a%6F%68n").await.json()["message"],
            "Hello, John! Your birthday is in 1 day(s)"
        );
    });
}

#[test]
fn usernames_of_1_to_255_letters_are_accepted_and_no_others() {
    with_app(async |service, _| {
        for name in ["a".to_owned(), "Z".repeat(255), "%61".repeat(255)] {
            assert_eq!(service.put(&name, "1990-05-20").await.status, 204, "{name}");
            assert_eq!(service.get(&format!("/hello/{name}")).await.status, 200, "{name}");
        }
        let too_long = "a".repeat(256);
        for name in [
            &too_long,
            "",
            "john1",
            "jo-hn",
            "jo%20hn",
            "%00",
            "%C3%A9",
            "jo%2Ehn",
            "..%2f",
            "john%2Fdoe",
            "%",
            "%4",
            "%zz",
        ] {
            service.put(name, "1990-05-20").await.problem(400);
            service.get(&format!("/hello/{name}")).await.problem(400);
        }
    });
}

#[test]
fn raw_bytes_that_are_no_letters_are_refused_by_the_component_or_the_host() {
    with_app(async |service, _| {
        for name in ["é".as_bytes(), b"jo hn", b"john\x00", b"jo\\hn", b"\xff"] {
            let request = [b"GET /hello/", name, b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"].concat();
            let answer = service.raw(&request);
            assert!(answer.starts_with("HTTP/1.1 400 "), "{name:?}: {answer}");
        }
    });
}

#[test]
fn a_body_that_is_not_the_object_is_refused() {
    with_app(async |service, _| {
        for body in [
            "",
            "x",
            "null",
            "[]",
            r#"["1990-05-20"]"#,
            r#""1990-05-20""#,
            "{}",
            r#"{"dateOfBirth":19900520}"#,
            r#"{"dateOfBirth":null}"#,
            r#"{"date_of_birth":"1990-05-20"}"#,
            r#"{"dateOfBirth":"1990-05-20"} x"#,
            r#"{"dateOfBirth":"1990-05-20"}{}"#,
            r#"{"dateOfBirth":"1990-05-20","dateOfBirth":"1990-05-20"}"#,
            r#"{"dateOfBirth":"1990-05-20""#,
            r#"{'dateOfBirth':'1990-05-20'}"#,
        ] {
            let detail = service.request("PUT", "/hello/john", body).await.problem(400);
            assert!(detail.contains("body"), "{body}: {detail}");
        }
        assert_eq!(service.get("/hello/john").await.status, 404, "nothing was saved");
    });
}

#[test]
fn extra_keys_are_ignored() {
    with_app(async |service, _| {
        let body = r#"{"name":{"first":["x"]},"dateOfBirth":"1990-05-20","dateofbirth":1}"#;
        assert_eq!(service.request("PUT", "/hello/john", body).await.status, 204);
    });
}

#[test]
fn a_date_is_exactly_year_month_day_and_exists() {
    with_app(async |service, _| {
        for date in [
            "1990-5-20",
            "+1990-05-20",
            "-1990-05-20",
            " 1990-05-20",
            "1990-05-20 ",
            "1990-05-20T00:00:00Z",
            "20-05-1990",
            "1990/05/20",
            "",
            "2001-02-29",
            "1900-02-29",
            "1990-13-01",
            "1990-00-01",
            "1990-04-31",
            "1990-01-00",
            "0000-01-01",
            "10000-01-01",
            "١٩٩٠-٠٥-٢٠",
        ] {
            let detail = service.put("john", date).await.problem(400);
            assert!(detail.contains("dateOfBirth"), "{date}: {detail}");
        }
        for date in ["0001-01-01", "2000-02-29", "1600-02-29"] {
            assert_eq!(service.put("john", date).await.status, 204, "{date}");
            assert_eq!(service.get("/hello/john").await.status, 200, "{date}");
        }
    });
}

#[test]
fn a_date_of_today_or_later_is_refused() {
    with_app(async |service, _| {
        service.clock.set_seconds((days_since_1970(TODAY) + 1) * 86_400 - 1);
        for date in ["2026-05-20", "2026-05-21", "9999-12-31"] {
            assert!(service.put("john", date).await.problem(400).contains("before today"), "{date}");
        }
        assert_eq!(service.put("john", "2026-05-19").await.status, 204);
    });
}

#[test]
fn any_content_type_or_none_is_accepted() {
    with_app(async |service, _| {
        let url = format!("{}/hello/john", service.server.url());
        for content_type in ["application/x-www-form-urlencoded", "text/plain", "application/json; charset=utf-8", "x"]
        {
            let body = r#"{"dateOfBirth":"1990-05-20"}"#;
            let request = service.client.put(&url).header("content-type", content_type).body(body);
            assert_eq!(request.send().await.unwrap().status(), 204, "{content_type}");
        }
        assert_eq!(service.put("john", "1990-05-20").await.status, 204, "without any");
    });
}

#[test]
fn a_body_of_4096_bytes_is_read_and_a_longer_one_refused_unread() {
    with_app(async |service, _| {
        let padded = |length: usize| {
            let object = r#"{"dateOfBirth":"1990-05-20"}"#;
            format!("{object}{}", " ".repeat(length - object.len()))
        };
        assert_eq!(service.request("PUT", "/hello/john", padded(4096)).await.status, 204);
        service.request("PUT", "/hello/john", padded(4097)).await.problem(413);

        // The answer comes although no byte of the declared body is sent.
        let declared = b"PUT /hello/john HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n";
        assert!(service.raw(declared).starts_with("HTTP/1.1 413 "));
        // A body of unknown length is refused as soon as it exceeds the limit, although it never ends.
        let chunk = format!("1001\r\n{}\r\n", " ".repeat(0x1001));
        let endless = format!("PUT /hello/john HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}");
        assert!(service.raw(endless.as_bytes()).starts_with("HTTP/1.1 413 "));
    });
}

#[test]
fn a_chunked_body_is_a_body() {
    with_app(async |service, _| {
        let chunks = "e\r\n{\"dateOfBirth\"\r\ne\r\n:\"1990-05-20\"}\r\n0\r\n\r\n";
        let chunked = format!("PUT /hello/john HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}");
        assert!(service.raw(chunked.as_bytes()).starts_with("HTTP/1.1 204 "), "{}", service.raw(chunked.as_bytes()));
        let broken = "PUT /hello/john HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n";
        assert!(service.raw(broken.as_bytes()).starts_with("HTTP/1.1 400 "));
    });
}

#[test]
fn an_unknown_user_is_not_found() {
    with_app(async |service, _| {
        assert!(service.get("/hello/nobody").await.problem(404).contains("PUT"));
    });
}

#[test]
fn head_is_get_without_a_body() {
    with_app(async |service, _| {
        service.put("john", "1990-05-20").await;
        for path in ["/hello/john", "/hello/nobody", "/healthz", "/readyz", "/openapi.json", "/nothing", "/hello/1"] {
            let (get, head) = (service.get(path).await, service.request("HEAD", path, "").await);
            assert_eq!(head.status, get.status, "{path}");
            assert_eq!(head.header("content-length"), get.header("content-length"), "{path}");
            assert_eq!(head.header("content-type"), get.header("content-type"), "{path}");
            assert_eq!(head.body, "", "{path}");
        }
    });
}

#[test]
fn nothing_but_usernames_lives_under_hello() {
    with_app(async |service, _| {
        for name in ["healthz", "readyz", "health", "openapi"] {
            assert_eq!(service.put(name, "1990-05-20").await.status, 204, "{name}");
            let message = service.get(&format!("/hello/{name}")).await.json()["message"].to_string();
            assert!(message.contains(&format!("Hello, {name}!")), "{message}");
        }
    });
}

#[test]
fn healthz_never_touches_the_database() {
    with_app(async |service, _| {
        service.faults.take_calls();
        let healthz = service.get("/healthz").await;
        assert_eq!((healthz.status, healthz.json()), (200, json!({"status": "alive"})));
        assert_eq!(service.faults.take_calls(), []);
    });
}

#[test]
fn readyz_says_which_servers_answered() {
    with_app(async |service, _| {
        let readyz = service.get("/readyz").await;
        assert_eq!(readyz.status, 200);
        assert_eq!(readyz.json(), json!({"status": "ready", "primary": "ready", "replica": "not configured"}));
    });
}

#[test]
fn another_method_is_405_with_allow_and_options_is_204() {
    with_app(async |service, _| {
        for (path, allow) in [
            ("/hello/john", "GET, HEAD, PUT, OPTIONS"),
            ("/healthz", "GET, HEAD, OPTIONS"),
            ("/readyz", "GET, HEAD, OPTIONS"),
            ("/openapi.json", "GET, HEAD, OPTIONS"),
        ] {
            for method in ["POST", "DELETE", "PATCH", "TRACE", "BREW", "get"] {
                let answer = service.request(method, path, "").await;
                answer.problem(405);
                assert_eq!(answer.header("allow"), Some(allow), "{method} {path}");
            }
            let options = service.request("OPTIONS", path, "").await;
            assert_eq!(
                (options.status, options.header("allow"), options.body.as_str()),
                (204, Some(allow), ""),
                "{path}"
            );
        }
        service.request("PUT", "/healthz", "").await.problem(405);
    });
}

#[test]
fn another_path_is_not_found() {
    with_app(async |service, _| {
        for path in [
            "/",
            "/hello",
            "/hello/john/",
            "/hello/john/x",
            "/HELLO/john",
            "/healthz/",
            "/hell%6f/john",
            "//hello/john",
        ] {
            service.get(path).await.problem(404);
            service.request("OPTIONS", path, "").await.problem(404);
        }
    });
}

#[test]
fn every_answer_is_neither_stored_nor_sniffed() {
    with_app(async |service, _| {
        for (method, path) in [
            ("PUT", "/hello/john"),
            ("GET", "/hello/nobody"),
            ("GET", "/healthz"),
            ("GET", "/readyz"),
            ("GET", "/openapi.json"),
            ("GET", "/"),
            ("DELETE", "/healthz"),
            ("OPTIONS", "/hello/john"),
            ("HEAD", "/hello/1"),
        ] {
            let answer = service.request(method, path, "").await;
            assert_eq!(answer.header("cache-control"), Some("no-store"), "{method} {path}");
            assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{method} {path}");
        }
    });
}

#[test]
fn the_query_is_ignored() {
    with_app(async |service, _| {
        assert_eq!(service.get("/healthz?a=/b").await.status, 200);
        assert_eq!(service.get("/hello/nobody?x").await.status, 404);
    });
}
