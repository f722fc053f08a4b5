//! The date of birth: a calendar day without a time or a time zone.

use chrono::{Datelike, NaiveDate};
use std::fmt;

/// A day of the years 0001 to 9999.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DateOfBirth(NaiveDate);

/// Why a text is not a date of birth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DateOfBirthError {
    /// Not exactly `YYYY-MM-DD` in ASCII digits.
    Format,
    /// The calendar has no such day, or the year is 0000.
    NoSuchDay,
    /// The day is `today` or later.
    NotInThePast,
}

impl DateOfBirth {
    /// Accepts only `YYYY-MM-DD`, and only an existing day before `today`.
    pub fn parse(text: &str, today: NaiveDate) -> Result<Self, DateOfBirthError> {
        let (year, month, day) = year_month_day(text).ok_or(DateOfBirthError::Format)?;
        let date = Self::stored(year as i32, month, day).ok_or(DateOfBirthError::NoSuchDay)?;
        if date.0 >= today {
            return Err(DateOfBirthError::NotInThePast);
        }
        Ok(date)
    }

    /// A date from the database, or `None` if [`DateOfBirth::parse`] can't have accepted it.
    pub fn stored(year: i32, month: u32, day: u32) -> Option<Self> {
        NaiveDate::from_ymd_opt(year, month, day).filter(|date| (1..=9999).contains(&date.year())).map(Self)
    }

    /// Year, month and day, as the database's DATE takes them.
    pub fn year_month_day(self) -> (i32, u32, u32) {
        (self.0.year(), self.0.month(), self.0.day())
    }
}

fn year_month_day(text: &str) -> Option<(u32, u32, u32)> {
    let bytes: &[u8; 10] = text.as_bytes().try_into().ok()?;
    let number =
        |digits: &[u8]| digits.iter().try_fold(0, |number, digit| Some(number * 10 + (*digit as char).to_digit(10)?));
    let dashes = bytes[4] == b'-' && bytes[7] == b'-';
    dashes.then_some((number(&bytes[..4])?, number(&bytes[5..7])?, number(&bytes[8..])?))
}

impl fmt::Display for DateOfBirthError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Format => "dateOfBirth must be written YYYY-MM-DD, for example 1990-05-20.",
            Self::NoSuchDay => "dateOfBirth must be a day that exists, in the years 0001 to 9999.",
            Self::NotInThePast => "dateOfBirth must be a day before today (UTC).",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<(i32, u32, u32), DateOfBirthError> {
        let today = NaiveDate::from_ymd_opt(2026, 3, 1).unwrap();
        DateOfBirth::parse(text, today).map(DateOfBirth::year_month_day)
    }

    #[test]
    fn an_existing_day_before_today_is_accepted() {
        assert_eq!(parse("1990-05-20"), Ok((1990, 5, 20)));
        assert_eq!(parse("0001-01-01"), Ok((1, 1, 1)));
        assert_eq!(parse("2000-02-29"), Ok((2000, 2, 29)));
        assert_eq!(parse("2026-02-28"), Ok((2026, 2, 28)));
    }

    #[test]
    fn today_and_later_are_refused() {
        for text in ["2026-03-01", "2026-03-02", "9999-12-31"] {
            assert_eq!(parse(text), Err(DateOfBirthError::NotInThePast), "{text}");
        }
    }

    #[test]
    fn days_that_do_not_exist_are_refused() {
        for text in ["2001-02-29", "1900-02-29", "2020-13-01", "2020-00-10", "2020-04-31", "2020-01-00", "0000-01-01"] {
            assert_eq!(parse(text), Err(DateOfBirthError::NoSuchDay), "{text}");
        }
    }

    #[test]
    fn every_other_way_to_write_a_date_is_refused() {
        for text in [
            "",
            "1990-5-20",
            "+1990-05-20",
            "-1990-05-20",
            " 1990-05-20",
            "1990-05-20 ",
            "1990-05-20T00:00:00Z",
            "1990/05/20",
            "19900520",
            "90-05-20",
            "1990-05-2a",
            "١٩٩٠-05",
            "1990-05-２",
        ] {
            assert_eq!(parse(text), Err(DateOfBirthError::Format), "{text}");
        }
    }
}
