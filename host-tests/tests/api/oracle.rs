//! A calendar that counts day by day, as a test oracle that is independent of the service's own.

/// Year, month, day.
pub type Date = (i64, u32, u32);

/// The number of days in a month.
pub fn days_in_month(year: i64, month: u32) -> u32 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// All days of these years, in order.
pub fn days(years: std::ops::RangeInclusive<i64>) -> impl DoubleEndedIterator<Item = Date> {
    years.flat_map(|year| {
        (1..=12).flat_map(move |month| (1..=days_in_month(year, month)).map(move |day| (year, month, day)))
    })
}

/// The day after a date.
pub fn day_after((year, month, day): Date) -> Date {
    match (month, day < days_in_month(year, month)) {
        (_, true) => (year, month, day + 1),
        (12, false) => (year + 1, 1, 1),
        (_, false) => (year, month + 1, 1),
    }
}

/// Whether a day is the birthday of somebody who was born on a date, as the contract defines it.
pub fn is_birthday((year, month, day): Date, (_, born_month, born_day): Date) -> bool {
    let moved = (born_month, born_day) == (2, 29) && days_in_month(year, 2) == 28;
    (month, day) == if moved { (3, 1) } else { (born_month, born_day) }
}

/// The days from 0001-01-01 to a date.
pub fn day_number((year, month, day): Date) -> i64 {
    let years: i64 = (1..year).map(days_in_year).sum();
    let months: u32 = (1..month).map(|month| days_in_month(year, month)).sum();
    years + i64::from(months + day) - 1
}

/// The days from 1970-01-01 to a date, as the guest's clock counts them.
pub fn days_since_1970(date: Date) -> i64 {
    day_number(date) - day_number((1970, 1, 1))
}

/// The date of a day number.
pub fn date_of(day_number: i64) -> Date {
    let (mut days, mut year, mut month) = (day_number, 1, 1);
    while days >= days_in_year(year) {
        days -= days_in_year(year);
        year += 1;
    }
    while days >= i64::from(days_in_month(year, month)) {
        days -= i64::from(days_in_month(year, month));
        month += 1;
    }
    (year, month, days as u32 + 1)
}

/// The days from `today` to the next birthday, counted one by one.
pub fn days_until_birthday(born: Date, today: Date) -> usize {
    let mut days = std::iter::successors(Some(today), |date| Some(day_after(*date)));
    days.position(|date| is_birthday(date, born)).expect("everybody has a birthday within a year")
}

fn days_in_year(year: i64) -> i64 {
    (1..=12).map(|month| i64::from(days_in_month(year, month))).sum()
}
