//! The promises of a drill, and their check.

use anyhow::{Result, bail, ensure};
use dob_clients::history::Findings;
use serde::Deserialize;
use std::error::Error;
use std::fmt::{Display, Formatter};
use std::time::Duration;

/// Limits for what clients see; what is not named is not limited.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Promises {
    write_downtime_s: Option<u64>,
    latency_s: Option<u64>,
    failed_saves: Option<usize>,
    failed_greetings: Option<usize>,
    stale_greetings: Option<usize>,
    lost: Option<usize>,
    errors: Option<Vec<String>>,
    /// A control: it proves that the other drills would notice failures.
    #[serde(default)]
    must_fail: bool,
    /// The same for lost dates.
    #[serde(default)]
    must_lose: bool,
}

/// A broken promise about time. It says nothing about the service if the host withheld the machine's processors meanwhile.
#[derive(Debug)]
pub(crate) struct TooSlow(String);

impl Display for TooSlow {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl Error for TooSlow {}

impl Promises {
    /// Checks the figures; the error says which promise is broken. It is [`TooSlow`] if all others are kept.
    pub fn check(&self, figures: &Findings) -> Result<()> {
        self.check_with_patience(figures, if std::env::var_os("CI").is_some() { 2 } else { 1 })
    }

    fn check_with_patience(&self, figures: &Findings, patience: u64) -> Result<()> {
        let at_most = |what: &str, found: usize, limit: Option<usize>| match limit {
            Some(limit) if found > limit => bail!("{found} {what}, but the promise is at most {limit}: {figures:?}"),
            _ => Ok(()),
        };
        at_most("acknowledged dates were lost", figures.lost.len(), self.lost)?;
        at_most("saves failed", figures.failed_saves, self.failed_saves)?;
        at_most("greetings failed", figures.failed_greetings, self.failed_greetings)?;
        at_most("greetings were stale", figures.stale_greetings, self.stale_greetings)?;
        ensure!(!self.must_fail || !figures.errors.is_empty(), "no request failed, but some must in this control");
        ensure!(!self.must_lose || !figures.lost.is_empty(), "no date was lost, but some must be in this control");
        if let Some(kinds) = &self.errors {
            let other = figures.errors.keys().find(|kind| !kinds.contains(kind));
            ensure!(other.is_none(), "there were other errors than the allowed {kinds:?}: {figures:?}");
        }
        let within = |what: &str, took: Duration, limit_s: Option<u64>| match limit_s {
            Some(limit) if took > Duration::from_secs(limit) => {
                bail!(TooSlow(format!("{what} was {took:.2?}, but the promise is at most {limit} s: {figures:?}")))
            }
            _ => Ok(()),
        };
        within("write downtime", figures.write_downtime, self.write_downtime_s.map(|limit| patience * limit))?;
        within("the slowest answer", figures.slowest, self.latency_s)
    }
}

impl Display for Promises {
    /// In words, for the page of all results.
    fn fmt(&self, formatter: &mut Formatter<'_>) -> std::fmt::Result {
        let at_most = |limit: Option<usize>, one: &str| {
            limit.map(|limit| if limit == 0 { format!("no {one}") } else { format!("at most {limit} × {one}") })
        };
        let errors = self.errors.as_ref().map(|kinds| match kinds.as_slice() {
            [] => "no failed request".to_owned(),
            kinds => format!("only these errors: {}", kinds.join(", ")),
        });
        let promises = [
            self.must_fail.then(|| "a control: some request must fail".to_owned()),
            self.must_lose.then(|| "a control: some date must be lost".to_owned()),
            self.write_downtime_s.map(|limit| format!("write downtime ≤ {limit} s")),
            self.latency_s.map(|limit| format!("slowest answer ≤ {limit} s")),
            errors,
            at_most(self.lost, "lost date"),
            at_most(self.failed_saves, "failed save"),
            at_most(self.failed_greetings, "failed greeting"),
            at_most(self.stale_greetings, "stale greeting"),
        ];
        formatter.write_str(&promises.into_iter().flatten().collect::<Vec<_>>().join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn broken(promises: &str, figures: Findings) -> bool {
        toml::from_str::<Promises>(promises).unwrap().check_with_patience(&figures, 1).is_err()
    }

    #[test]
    fn promises_are_printed_in_words() {
        let promises = "write_downtime_s = 5\nlatency_s = 6\nfailed_saves = 3\nfailed_greetings = 2\nlost = 0\nerrors = [\"503\", \"500\"]";
        let words = toml::from_str::<Promises>(promises).unwrap().to_string();
        let expected = "write downtime ≤ 5 s; slowest answer ≤ 6 s; only these errors: 503, 500; no lost date; at most 3 × failed save; at most 2 × failed greeting";
        assert_eq!(words, expected);
        assert_eq!(toml::from_str::<Promises>("errors = []").unwrap().to_string(), "no failed request");
    }

    #[test]
    fn only_a_promise_about_time_is_broken_by_being_slow() {
        let promises: Promises = toml::from_str("write_downtime_s = 5\nlatency_s = 5\nlost = 0").unwrap();
        let too_slow = |figures| promises.check_with_patience(&figures, 1).unwrap_err().is::<TooSlow>();
        let slow = Duration::from_millis(5001);
        assert!(too_slow(Findings { write_downtime: slow, ..Findings::default() }));
        assert!(too_slow(Findings { slowest: slow, ..Findings::default() }));
        let lost: BTreeMap<_, _> = [("ann".to_owned(), 1)].into();
        assert!(!too_slow(Findings { slowest: slow, lost, ..Findings::default() }));
    }

    #[test]
    fn every_promise_can_be_broken() {
        let kept = "write_downtime_s = 5\nlatency_s = 5\nfailed_greetings = 0\nstale_greetings = 0\nlost = 0\nerrors = [\"503\"]";
        let lost: BTreeMap<_, _> = [("ann".to_owned(), 1)].into();
        let errors = |kind: &str| [(kind.to_owned(), 1)].into();
        assert!(!broken(
            kept,
            Findings { acknowledged: 100, errors: errors("503"), failed_saves: 1, ..Findings::default() }
        ));
        assert!(broken(kept, Findings { write_downtime: Duration::from_millis(5001), ..Findings::default() }));
        assert!(broken(kept, Findings { slowest: Duration::from_millis(5001), ..Findings::default() }));
        assert!(broken(kept, Findings { failed_greetings: 1, ..Findings::default() }));
        assert!(broken(kept, Findings { stale_greetings: 1, ..Findings::default() }));
        assert!(broken(kept, Findings { lost: lost.clone(), ..Findings::default() }));
        assert!(broken(kept, Findings { errors: errors("no answer"), ..Findings::default() }));
        assert!(broken("failed_saves = 0", Findings { failed_saves: 1, ..Findings::default() }));
        assert!(broken("must_fail = true", Findings::default()));
        assert!(broken("must_lose = true", Findings::default()));
        assert!(!broken("must_lose = true", Findings { lost: lost.clone(), ..Findings::default() }));
        assert!(!broken("must_fail = true", Findings { errors: errors("no answer"), ..Findings::default() }));
        assert!(broken("errors = []", Findings { errors: errors("503"), ..Findings::default() }));
        assert!(
            !broken("", Findings { stale_greetings: 1, failed_greetings: 1, ..Findings::default() }),
            "nothing is promised"
        );
    }
}
