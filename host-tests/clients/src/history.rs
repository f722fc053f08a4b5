//! The history of all operations of clients, and its checker.

use anyhow::{Context, Result};
use chrono::{Datelike, Days, NaiveDate};
use std::collections::BTreeMap;
use std::time::Duration;

/// The day that versions count from.
pub const TODAY: NaiveDate = NaiveDate::from_ymd_opt(2026, 5, 20).expect("a date");
/// How many dates greetings can tell apart.
pub const VERSIONS: u16 = 364;

/// The prefix of all user names in a history.
const PREFIX: &str = "client";

/// The highest number of a client's users, which is spelled with four letters.
pub const LAST_USER: usize = 26 * 26 * 26 * 26 - 1;

/// A client's operation and its outcome. Times count from the start of the history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    pub client: usize,
    pub started: Duration,
    pub ended: Duration,
    pub action: Action,
    /// The kind of error, if it failed; the same words for the same kind.
    pub error: Option<String>,
}

/// What an operation does, and for a greeting what it found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Save the n-th date of a user.
    Save { user: String, version: u16 },
    /// Greet a user. `version` is that of the date in the greeting, or none if the user is unknown.
    Greet { user: String, version: Option<u16> },
    /// Get another path.
    Get { path: String },
}

impl Operation {
    /// Whether this is a save that was acknowledged.
    pub fn saved(&self) -> bool {
        self.error.is_none() && matches!(self.action, Action::Save { .. })
    }

    /// Whether this is a greeting that was answered.
    pub fn greeted(&self) -> bool {
        self.error.is_none() && matches!(self.action, Action::Greet { .. })
    }
}

/// The checker's findings, from a history and the database at its end.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Findings {
    pub acknowledged: usize,
    /// Acknowledged dates that the database lacks at the end, by user.
    pub lost: BTreeMap<String, u16>,
    /// The seconds from the acknowledgement of the first lost date to that of the last one.
    pub lost_seconds: f64,
    /// Greetings made from an older date than the same client had saved or seen before.
    pub stale_greetings: usize,
    /// The longest time without a successful save.
    pub write_downtime: Duration,
    /// The longest time without a successful greeting.
    pub read_downtime: Duration,
    /// The latency of the slowest operation, failed ones included.
    pub slowest: Duration,
    /// Greetings that were answered.
    pub greetings: usize,
    pub failed_saves: usize,
    pub failed_greetings: usize,
    /// The number of errors of each kind.
    pub errors: BTreeMap<String, usize>,
}

/// The query for the final state of the database, one row for each user; [`stored`] parses its rows.
pub fn stored_query() -> String {
    let version = format!("(to_char(date_of_birth, '\"2026\"-MM-DD')::date - date '{TODAY}' + 365) % 365");
    format!("SELECT username || ' ' || {version} FROM dob_api.birthday WHERE username LIKE '{PREFIX}%'")
}

/// The stored version of each user, from the rows of [`stored_query`].
pub fn stored<'a>(rows: impl Iterator<Item = &'a str>) -> Result<BTreeMap<String, u16>> {
    let parse = |row: &str| {
        let (user, version) = row.split_once(' ')?;
        Some((user.to_owned(), version.parse().ok()?))
    };
    rows.map(|row| parse(row).with_context(|| format!("the row is not a user and a version: {row}"))).collect()
}

/// The n-th date of a user, whose birthday is n days after `TODAY`.
pub fn date(version: u16) -> NaiveDate {
    let birthday = TODAY + Days::new(version.into());
    // 1992 is a leap year in the past.
    NaiveDate::parse_from_str(&format!("1992-{}", birthday.format("%m-%d")), "%Y-%m-%d").expect("a day of a leap year")
}

/// The version of the date that a greeting was made from, given the day of the service's clock; none if the answer is no greeting.
pub fn version(greeting: &str, today: NaiveDate) -> Option<u16> {
    let is_today = greeting.contains("Happy birthday!");
    let days = if is_today { 0 } else { greeting.split_whitespace().find_map(|word| word.parse().ok())? };
    let birthday = today + Days::new(days);
    // The same day in the year from which versions count, or in the next one.
    let in_year = |year| NaiveDate::from_ymd_opt(year, birthday.month(), birthday.day());
    let same = in_year(TODAY.year()).filter(|day| *day >= TODAY).or_else(|| in_year(TODAY.year() + 1))?;
    u16::try_from((same - TODAY).num_days()).ok()
}

/// As many clients share no user.
pub const CLIENTS_WITHOUT_SHARED_USERS: usize = 26 * 26;

/// The n-th user of a client, in letters only as the contract requires.
pub fn user(client: usize, n: usize) -> String {
    let letter = |number: usize| char::from(b'a' + (number % 26) as u8);
    // The width is fixed, so that no two pairs of numbers give the same name.
    let digits = [client / 26, client, n / 26 / 26 / 26, n / 26 / 26, n / 26, n];
    digits.map(letter).iter().fold(PREFIX.to_owned(), |name, letter| name + &letter.to_string())
}

/// User n of a prefilled database: the seven digits of n as letters.
pub fn numbered_user(n: u32) -> String {
    format!("{n:07}").bytes().map(|digit| char::from(digit - b'0' + b'a')).collect()
}

impl Findings {
    /// Checks a history against the versions in the database at its end.
    pub fn of(history: &[Operation], stored: &BTreeMap<String, u16>) -> Self {
        let mut findings = Self::default();
        findings.judge_saves(history, stored);
        findings.stale_greetings = stale_greetings(history);
        findings.write_downtime = longest_gap(history, Operation::saved);
        findings.read_downtime = longest_gap(history, Operation::greeted);
        findings.slowest =
            history.iter().map(|operation| operation.ended - operation.started).max().unwrap_or_default();
        findings.greetings = history.iter().filter(|operation| operation.greeted()).count();
        for operation in history {
            let Some(error) = &operation.error else { continue };
            *findings.errors.entry(error.clone()).or_default() += 1;
            match operation.action {
                Action::Save { .. } => findings.failed_saves += 1,
                Action::Greet { .. } => findings.failed_greetings += 1,
                Action::Get { .. } => {}
            }
        }
        findings
    }

    fn judge_saves(&mut self, history: &[Operation], stored: &BTreeMap<String, u16>) {
        let mut lost_at = Vec::new();
        for operation in history.iter().filter(|operation| operation.error.is_none()) {
            let Action::Save { user, version } = &operation.action else { continue };
            self.acknowledged += 1;
            // A later date, acknowledged or not, may have replaced it.
            if stored.get(user).is_none_or(|stored| stored < version) {
                self.lost.insert(user.clone(), *version);
                lost_at.push(operation.ended);
            }
        }
        if let (Some(first), Some(last)) = (lost_at.iter().min(), lost_at.iter().max()) {
            self.lost_seconds = (*last - *first).as_secs_f64();
        }
    }
}

/// How many greetings show an older date than their client knew.
fn stale_greetings(history: &[Operation]) -> usize {
    let mut operations: Vec<_> = history.iter().filter(|operation| operation.error.is_none()).collect();
    operations.sort_by_key(|operation| operation.ended);
    let mut known: BTreeMap<(usize, &str), u16> = BTreeMap::new();
    let mut stale = 0;
    for operation in operations {
        let (user, seen) = match &operation.action {
            Action::Save { user, version } => (user, Some(*version)),
            Action::Greet { user, version } => (user, *version),
            Action::Get { .. } => continue,
        };
        let known = known.entry((operation.client, user)).or_default();
        if seen.unwrap_or(0) < *known && matches!(operation.action, Action::Greet { .. }) {
            stale += 1;
        }
        *known = seen.unwrap_or(0).max(*known);
    }
    stale
}

/// The longest time between two successes, or between a success and the start or end of the history.
fn longest_gap(history: &[Operation], succeeded: impl Fn(&Operation) -> bool) -> Duration {
    let end = history.iter().map(|operation| operation.ended).max().unwrap_or_default();
    let successes = history.iter().filter(|operation| succeeded(operation)).map(|operation| operation.ended);
    let mut moments: Vec<_> = successes.chain([Duration::ZERO, end]).collect();
    moments.sort();
    moments.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operation(at_ms: u64, action: Action) -> Operation {
        let at = Duration::from_millis(at_ms);
        Operation { client: 0, started: at, ended: at + Duration::from_millis(1), action, error: None }
    }

    fn save(at_ms: u64, user: &str, version: u16) -> Operation {
        operation(at_ms, Action::Save { user: user.to_owned(), version })
    }

    fn greet(at_ms: u64, user: &str, version: Option<u16>) -> Operation {
        operation(at_ms, Action::Greet { user: user.to_owned(), version })
    }

    fn failed(operation: Operation) -> Operation {
        Operation { error: Some("503".to_owned()), ..operation }
    }

    fn holds(users: &[(&str, u16)]) -> BTreeMap<String, u16> {
        users.iter().map(|(user, version)| (user.to_string(), *version)).collect()
    }

    #[test]
    fn a_planted_loss_is_found() {
        let history = [save(0, "ann", 1), save(10, "bob", 1), save(20, "bob", 2), failed(save(30, "eve", 1))];
        assert_eq!(Findings::of(&history, &holds(&[("ann", 1), ("bob", 2)])).lost, holds(&[]));
        assert_eq!(Findings::of(&history, &holds(&[("bob", 2)])).lost, holds(&[("ann", 1)]));
        assert_eq!(Findings::of(&history, &holds(&[("ann", 1), ("bob", 1)])).lost, holds(&[("bob", 2)]));
        // The second may have been stored though its client was not told.
        assert_eq!(
            Findings::of(&[save(0, "ann", 1), failed(save(9, "ann", 2))], &holds(&[("ann", 2)])).lost,
            holds(&[])
        );
    }

    #[test]
    fn the_lost_seconds_span_the_lost_dates() {
        let history = [save(0, "ann", 1), save(1000, "bob", 1), save(3500, "eve", 1), save(9000, "joe", 1)];
        assert_eq!(Findings::of(&history, &holds(&[("ann", 1), ("joe", 1)])).lost_seconds, 2.5);
    }

    #[test]
    fn a_planted_stale_read_is_found() {
        let after_save = [save(0, "ann", 1), save(10, "ann", 2), greet(20, "ann", Some(1))];
        assert_eq!(Findings::of(&after_save, &holds(&[("ann", 2)])).stale_greetings, 1);
        let after_greeting = [greet(0, "ann", Some(5)), greet(10, "ann", Some(4)), greet(20, "ann", Some(5))];
        assert_eq!(Findings::of(&after_greeting, &holds(&[])).stale_greetings, 1);
        let gone = [save(0, "ann", 1), greet(10, "ann", None)];
        assert_eq!(Findings::of(&gone, &holds(&[("ann", 1)])).stale_greetings, 1);
        let fine = [save(0, "ann", 1), failed(save(5, "ann", 2)), greet(10, "ann", Some(1)), greet(20, "ann", Some(2))];
        assert_eq!(Findings::of(&fine, &holds(&[("ann", 2)])).stale_greetings, 0);
    }

    #[test]
    fn downtime_and_errors_are_counted_by_kind() {
        let history = [
            save(0, "ann", 1),
            failed(save(500, "ann", 2)),
            save(2000, "ann", 2),
            greet(2500, "ann", Some(2)),
            failed(greet(2600, "ann", None)),
        ];
        let findings = Findings::of(&history, &holds(&[("ann", 2)]));
        assert_eq!(findings.write_downtime, Duration::from_millis(2000));
        assert_eq!(findings.read_downtime, Duration::from_millis(2501));
        assert_eq!((findings.failed_saves, findings.failed_greetings), (1, 1));
        assert_eq!(findings.errors, [("503".to_owned(), 2)].into());
    }

    #[test]
    fn a_greeting_tells_its_date_for_every_version() {
        assert_eq!(date(1).to_string(), "1992-05-21");
        assert_eq!(date(VERSIONS).to_string(), "1992-05-19");
        let in_17_days = "Hello, ann! Your birthday is in 17 day(s)";
        assert_eq!(version(in_17_days, TODAY), Some(17));
        assert_eq!(version("Hello, ann! Happy birthday!", TODAY), Some(0));
        assert_eq!(version(r#"{"title":"Not Found"}"#, TODAY), None);
        // On other days of the year, a leap year among them.
        let day = |year, month, day| NaiveDate::from_ymd_opt(year, month, day).unwrap();
        assert_eq!(version(in_17_days, day(2026, 12, 20)), version(in_17_days, day(2030, 12, 20)));
        assert_eq!(version("Hello, ann! Your birthday is in 60 day(s)", day(2028, 1, 1)), Some(285));
        assert_eq!(version("Hello, ann! Your birthday is in 59 day(s)", day(2027, 1, 1)), Some(285));
    }

    #[test]
    fn user_names_are_unique_and_only_letters() {
        let users: std::collections::BTreeSet<_> = (0..50).flat_map(|c| (0..1000).map(move |n| user(c, n))).collect();
        assert_eq!(users.len(), 50 * 1000);
        assert!(users.iter().all(|user| user.chars().all(|letter| letter.is_ascii_lowercase())));
    }
}
