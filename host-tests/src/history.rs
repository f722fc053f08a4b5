//! The history checker: clients that save and greet at a steady rate and record every call, and what the record proves.

use chrono::{Days, NaiveDate};
use std::collections::BTreeMap;
use std::time::Duration;

/// The day that the guest's clock shows during a history, so that a greeting tells which date it was made from.
pub const TODAY: NaiveDate = NaiveDate::from_ymd_opt(2026, 5, 20).expect("a date");
/// Dates that greetings tell apart.
pub const VERSIONS: u16 = 364;

/// One call and its outcome; times are from the start of the history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    pub client: usize,
    pub started: Duration,
    pub ended: Duration,
    pub what: What,
    /// What went wrong, in a few words that are the same for the same fault.
    pub error: Option<String>,
}

/// What a call asked for, and for a greeting what it found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// Save the n-th date of a user. The first of a new user, or the next of the client's own.
    Save { user: String, version: u16 },
    /// Greet a user; the version of the date that the greeting was made from, none for a user who is not there.
    Greet { user: String, version: Option<u16> },
}

/// What a history proves, given what the database holds at its end.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Findings {
    pub acknowledged: usize,
    /// Acknowledged dates that are not there at the end, by user.
    pub lost: BTreeMap<String, u16>,
    /// When the last lost date was acknowledged before the first that was kept again: seconds of lost writes.
    pub lost_seconds: f64,
    /// Greetings made from an older date than the same client had had acknowledged or seen before.
    pub backwards: usize,
    /// The longest time without a successful save, and without a successful greeting.
    pub longest_without_save: Duration,
    pub longest_without_greeting: Duration,
    /// The slowest call of all, failed ones included.
    pub slowest: Duration,
    pub failed_saves: usize,
    pub failed_greetings: usize,
    /// How often each error came.
    pub errors: BTreeMap<String, usize>,
}

/// The n-th date of a user: the birthday is in n days.
pub fn date(version: u16) -> NaiveDate {
    let birthday = TODAY + Days::new(version.into());
    // 1992 has every day of the year; it was long ago.
    NaiveDate::parse_from_str(&format!("1992-{}", birthday.format("%m-%d")), "%Y-%m-%d").expect("a day of a leap year")
}

/// Which date a greeting was made from; none when it is not one of ours.
pub fn version(greeting: &str) -> Option<u16> {
    greeting.split_whitespace().find_map(|word| word.parse().ok())
}

/// The n-th user of a client, letters only, as the contract wants it; no two of 676 clients share one.
pub fn user(client: usize, n: usize) -> String {
    let letter = |number: usize| char::from(b'a' + (number % 26) as u8);
    // A fixed width, or where one number ends and the next begins could not be told.
    let digits = [client / 26, client, n / 26 / 26 / 26, n / 26 / 26, n / 26, n];
    digits.map(letter).iter().fold("client".to_owned(), |name, letter| name + &letter.to_string())
}

impl Findings {
    /// Judges a history by the versions that the database holds at its end.
    pub fn of(history: &[Call], stored: &BTreeMap<String, u16>) -> Self {
        let mut findings = Self::default();
        findings.judge_saves(history, stored);
        findings.backwards = backwards(history);
        findings.longest_without_save = longest_gap(history, |what| matches!(what, What::Save { .. }));
        findings.longest_without_greeting = longest_gap(history, |what| matches!(what, What::Greet { .. }));
        findings.slowest = history.iter().map(|call| call.ended - call.started).max().unwrap_or_default();
        for call in history {
            let Some(error) = &call.error else { continue };
            *findings.errors.entry(error.clone()).or_default() += 1;
            match call.what {
                What::Save { .. } => findings.failed_saves += 1,
                What::Greet { .. } => findings.failed_greetings += 1,
            }
        }
        findings
    }

    fn judge_saves(&mut self, history: &[Call], stored: &BTreeMap<String, u16>) {
        let mut lost_at = Vec::new();
        for call in history.iter().filter(|call| call.error.is_none()) {
            let What::Save { user, version } = &call.what else { continue };
            self.acknowledged += 1;
            // A later date, acknowledged or not, may stand in its place.
            if stored.get(user).is_none_or(|stored| stored < version) {
                self.lost.insert(user.clone(), *version);
                lost_at.push(call.ended);
            }
        }
        if let (Some(first), Some(last)) = (lost_at.iter().min(), lost_at.iter().max()) {
            self.lost_seconds = (*last - *first).as_secs_f64();
        }
    }
}

/// Counts greetings that show less than their client knew when it asked.
fn backwards(history: &[Call]) -> usize {
    let mut calls: Vec<_> = history.iter().filter(|call| call.error.is_none()).collect();
    calls.sort_by_key(|call| call.ended);
    let mut known: BTreeMap<(usize, &str), u16> = BTreeMap::new();
    let mut count = 0;
    for call in calls {
        let (user, seen) = match &call.what {
            What::Save { user, version } => (user, *version),
            What::Greet { user, version } => (user, version.unwrap_or(0)),
        };
        let known = known.entry((call.client, user)).or_default();
        if seen < *known && matches!(call.what, What::Greet { .. }) {
            count += 1;
        }
        *known = seen.max(*known);
    }
    count
}

/// The longest time between two successes, or between one and an end of the history.
fn longest_gap(history: &[Call], which: impl Fn(&What) -> bool) -> Duration {
    let end = history.iter().map(|call| call.ended).max().unwrap_or_default();
    let successes = history.iter().filter(|call| call.error.is_none() && which(&call.what)).map(|call| call.ended);
    let mut moments: Vec<_> = successes.chain([Duration::ZERO, end]).collect();
    moments.sort();
    moments.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(at_ms: u64, what: What) -> Call {
        let at = Duration::from_millis(at_ms);
        Call { client: 0, started: at, ended: at + Duration::from_millis(1), what, error: None }
    }

    fn save(at_ms: u64, user: &str, version: u16) -> Call {
        call(at_ms, What::Save { user: user.to_owned(), version })
    }

    fn greet(at_ms: u64, user: &str, version: Option<u16>) -> Call {
        call(at_ms, What::Greet { user: user.to_owned(), version })
    }

    fn failed(call: Call) -> Call {
        Call { error: Some("503".to_owned()), ..call }
    }

    fn stored(users: &[(&str, u16)]) -> BTreeMap<String, u16> {
        users.iter().map(|(user, version)| (user.to_string(), *version)).collect()
    }

    #[test]
    fn a_planted_loss_is_found() {
        let history = [save(0, "ann", 1), save(10, "bob", 1), save(20, "bob", 2), failed(save(30, "eve", 1))];
        assert_eq!(Findings::of(&history, &stored(&[("ann", 1), ("bob", 2)])).lost, stored(&[]));
        assert_eq!(Findings::of(&history, &stored(&[("bob", 2)])).lost, stored(&[("ann", 1)]));
        assert_eq!(Findings::of(&history, &stored(&[("ann", 1), ("bob", 1)])).lost, stored(&[("bob", 2)]));
        // The second may have been stored though its client was not told.
        assert_eq!(
            Findings::of(&[save(0, "ann", 1), failed(save(9, "ann", 2))], &stored(&[("ann", 2)])).lost,
            stored(&[])
        );
    }

    #[test]
    fn the_lost_time_is_that_of_the_lost_dates() {
        let history = [save(0, "ann", 1), save(1000, "bob", 1), save(3500, "eve", 1), save(9000, "joe", 1)];
        assert_eq!(Findings::of(&history, &stored(&[("ann", 1), ("joe", 1)])).lost_seconds, 2.5);
    }

    #[test]
    fn a_planted_stale_read_is_found() {
        let after_save = [save(0, "ann", 1), save(10, "ann", 2), greet(20, "ann", Some(1))];
        assert_eq!(Findings::of(&after_save, &stored(&[("ann", 2)])).backwards, 1);
        let after_greeting = [greet(0, "ann", Some(5)), greet(10, "ann", Some(4)), greet(20, "ann", Some(5))];
        assert_eq!(Findings::of(&after_greeting, &stored(&[])).backwards, 1);
        let gone = [save(0, "ann", 1), greet(10, "ann", None)];
        assert_eq!(Findings::of(&gone, &stored(&[("ann", 1)])).backwards, 1);
        let fine = [save(0, "ann", 1), failed(save(5, "ann", 2)), greet(10, "ann", Some(1)), greet(20, "ann", Some(2))];
        assert_eq!(Findings::of(&fine, &stored(&[("ann", 2)])).backwards, 0);
    }

    #[test]
    fn gaps_and_errors_are_told_by_kind() {
        let history = [
            save(0, "ann", 1),
            failed(save(500, "ann", 2)),
            save(2000, "ann", 2),
            greet(2500, "ann", Some(2)),
            failed(greet(2600, "ann", None)),
        ];
        let findings = Findings::of(&history, &stored(&[("ann", 2)]));
        assert_eq!(findings.longest_without_save, Duration::from_millis(2000));
        assert_eq!(findings.longest_without_greeting, Duration::from_millis(2501));
        assert_eq!((findings.failed_saves, findings.failed_greetings), (1, 1));
        assert_eq!(findings.errors, [("503".to_owned(), 2)].into());
    }

    #[test]
    fn a_greeting_tells_its_date_for_every_version() {
        assert_eq!(date(1).to_string(), "1992-05-21");
        assert_eq!(date(VERSIONS).to_string(), "1992-05-19");
        assert_eq!(version("Hello, ann! Your birthday is in 17 day(s)"), Some(17));
        assert_eq!(version("Hello, ann! Happy birthday!"), None);
    }

    #[test]
    fn users_are_many_and_all_letters() {
        let users: std::collections::BTreeSet<_> = (0..50).flat_map(|c| (0..1000).map(move |n| user(c, n))).collect();
        assert_eq!(users.len(), 50 * 1000);
        assert!(users.iter().all(|user| user.chars().all(|letter| letter.is_ascii_lowercase())));
    }
}
