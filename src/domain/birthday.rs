//! How many calendar days are left until the next birthday, and the greeting that says so.

use super::{date_of_birth::DateOfBirth, username::Username};
use chrono::{Datelike, NaiveDate};

/// Calendar days from `today` to the next birthday. 0 on the birthday itself.
///
/// Someone born on 29 February has the birthday on 1 March in a year that is not a leap year.
pub fn days_until_birthday(born: DateOfBirth, today: NaiveDate) -> i64 {
    let this_year = birthday_in(today.year(), born);
    let next = if this_year < today { birthday_in(today.year() + 1, born) } else { this_year };
    next.signed_duration_since(today).num_days()
}

fn birthday_in(year: i32, born: DateOfBirth) -> NaiveDate {
    let (_, month, day) = born.year_month_day();
    NaiveDate::from_ymd_opt(year, month, day).or(NaiveDate::from_ymd_opt(year, 3, 1)).unwrap_or(NaiveDate::MAX)
}

/// The greeting for a user on `today`.
pub fn greeting(name: &Username, born: DateOfBirth, today: NaiveDate) -> String {
    match days_until_birthday(born, today) {
        0 => format!("Hello, {name}! Happy birthday!"),
        days => format!("Hello, {name}! Your birthday is in {days} day(s)"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn days(born: (i32, u32, u32), today: (i32, u32, u32)) -> i64 {
        let born = DateOfBirth::stored(born.0, born.1, born.2).unwrap();
        days_until_birthday(born, NaiveDate::from_ymd_opt(today.0, today.1, today.2).unwrap())
    }

    #[test]
    fn the_birthday_is_today_tomorrow_or_a_year_away() {
        assert_eq!(days((1990, 5, 20), (2026, 5, 20)), 0);
        assert_eq!(days((1990, 5, 20), (2026, 5, 19)), 1);
        assert_eq!(days((1990, 5, 20), (2026, 5, 21)), 364);
        assert_eq!(days((1990, 1, 1), (2026, 12, 31)), 1);
    }

    #[test]
    fn born_on_29_february() {
        assert_eq!(days((1996, 2, 29), (2028, 2, 29)), 0);
        assert_eq!(days((1996, 2, 29), (2027, 2, 28)), 1);
        assert_eq!(days((1996, 2, 29), (2027, 3, 1)), 0);
        assert_eq!(days((1996, 2, 29), (2027, 3, 2)), 364);
        assert_eq!(days((1996, 2, 29), (2028, 2, 28)), 1);
        assert_eq!(days((1996, 2, 29), (2028, 3, 1)), 365);
    }

    #[test]
    fn the_greeting_repeats_the_case_of_the_request() {
        let name = Username::parse("JohN").unwrap();
        let born = DateOfBirth::stored(1990, 5, 20).unwrap();
        let on = |month, day| greeting(&name, born, NaiveDate::from_ymd_opt(2026, month, day).unwrap());
        assert_eq!(on(5, 20), "Hello, JohN! Happy birthday!");
        assert_eq!(on(5, 18), "Hello, JohN! Your birthday is in 2 day(s)");
    }
}
