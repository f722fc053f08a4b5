//! The calendar: every birthday on every day of eight years, and midnight, tested through the API.

use crate::helpers::TestApp;
use crate::oracle::{Date, days, days_since_1970, is_birthday};
use chrono::NaiveDate;
use dob_api::domain::{DateOfBirth, birthday::days_until_birthday};

#[test]
fn every_birthday_on_every_day_of_eight_years_and_more() {
    // The last year is only there to find the next birthday in.
    let today: Vec<Date> = days(2023..=2033).collect();
    let checked = days(2023..=2032).count();
    for born in days(1996..=1996) {
        let date = DateOfBirth::stored(born.0 as i32, born.1, born.2).unwrap();
        let mut until = None;
        // Counts backwards, day by day, from each birthday to the previous one.
        for (index, day) in today.iter().enumerate().rev() {
            until = if is_birthday(*day, born) { Some(0) } else { until.map(|days: i64| days + 1) };
            if index < checked {
                let now = NaiveDate::from_ymd_opt(day.0 as i32, day.1, day.2).unwrap();
                assert_eq!(Some(days_until_birthday(date, now)), until, "born {born:?}, today {day:?}");
            }
        }
    }
}

#[test]
fn the_clock_decides_what_is_said() {
    let app = TestApp::new();
    let cases = [
        ("1990-05-20", (2026, 5, 20), "Happy birthday!"),
        ("1990-05-20", (2026, 5, 19), "Your birthday is in 1 day(s)"),
        ("1990-05-20", (2026, 5, 21), "Your birthday is in 364 day(s)"),
        ("1990-01-01", (2026, 12, 31), "Your birthday is in 1 day(s)"),
        ("1990-12-31", (2026, 12, 31), "Happy birthday!"),
        ("1990-12-31", (2027, 1, 1), "Your birthday is in 364 day(s)"),
        ("1996-02-29", (2028, 2, 29), "Happy birthday!"),
        ("1996-02-29", (2027, 2, 28), "Your birthday is in 1 day(s)"),
        ("1996-02-29", (2027, 3, 1), "Happy birthday!"),
        ("1996-02-29", (2027, 3, 2), "Your birthday is in 364 day(s)"),
        ("1996-02-29", (2028, 3, 1), "Your birthday is in 365 day(s)"),
        ("2026-05-19", (2026, 5, 20), "Your birthday is in 364 day(s)"),
        ("0001-01-01", (9999, 12, 31), "Your birthday is in 1 day(s)"),
    ];
    app.runtime.block_on(async {
        for (born, (year, month, day), said) in cases {
            let today = days_since_1970((year, month, day));
            app.service.clock.set_day(today);
            assert_eq!(app.service.put("Ann", born).await.status, 204, "{born}");
            let message = format!(r#"{{"message":"Hello, Ann! {said}"}}"#);
            assert_eq!(app.service.get("/hello/Ann").await.body, message, "born {born}, today {year}-{month}-{day}");
            app.service.clock.set_seconds((today + 1) * 86_400 - 1);
            assert_eq!(app.service.get("/hello/Ann").await.body, message, "still at 23:59:59");
        }
    });
}
