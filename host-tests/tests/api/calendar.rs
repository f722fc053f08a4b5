//! The calendar: every birthday on every day of eight years, and the clock's edges end to end.

use crate::helpers::World;
use chrono::NaiveDate;
use dob_api::domain::{DateOfBirth, birthday::days_until_birthday};

/// Days a month has: written down here so that the service's calendar is not checked against itself.
fn days_in(month: u32, year: i32) -> u32 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// All days of these years in order.
fn days(years: std::ops::RangeInclusive<i32>) -> Vec<(i32, u32, u32)> {
    years
        .flat_map(|year| (1..=12).flat_map(move |month| (1..=days_in(month, year)).map(move |day| (year, month, day))))
        .collect()
}

/// Whether somebody born on this month and day celebrates on this day, in the contract's words.
fn is_birthday((_, born_month, born_day): (i32, u32, u32), (year, month, day): (i32, u32, u32)) -> bool {
    let moved = (born_month, born_day) == (2, 29) && days_in(2, year) == 28;
    (month, day) == if moved { (3, 1) } else { (born_month, born_day) }
}

#[test]
fn every_birthday_on_every_day_of_eight_years_and_more() {
    // From before 2024 to after 2032, with a year more at the end to find the next birthday in.
    let today = days(2023..=2033);
    let checked = days(2023..=2032).len();
    for born in days(1996..=1996) {
        let date = DateOfBirth::stored(born.0, born.1, born.2).unwrap();
        let mut until = None;
        // Counted backwards, one step a day, from each birthday to the one before.
        for (index, day) in today.iter().enumerate().rev() {
            until = if is_birthday(born, *day) { Some(0) } else { until.map(|days: i64| days + 1) };
            if index < checked {
                let now = NaiveDate::from_ymd_opt(day.0, day.1, day.2).unwrap();
                assert_eq!(Some(days_until_birthday(date, now)), until, "born {born:?}, today {day:?}");
            }
        }
    }
}

#[test]
fn the_clock_decides_what_is_said() {
    let world = World::new();
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
    world.runtime.block_on(async {
        for (born, (year, month, day), said) in cases {
            let today = NaiveDate::from_ymd_opt(year, month, day).unwrap().to_epoch_days().into();
            world.service.clock.set_day(today);
            assert_eq!(world.service.put("Ann", born).await.status, 204, "{born}");
            let message = format!(r#"{{"message":"Hello, Ann! {said}"}}"#);
            assert_eq!(world.service.get("/hello/Ann").await.body, message, "born {born}, today {year}-{month}-{day}");
            world.service.clock.set_seconds((today + 1) * 86_400 - 1);
            assert_eq!(world.service.get("/hello/Ann").await.body, message, "still at 23:59:59");
        }
    });
}
