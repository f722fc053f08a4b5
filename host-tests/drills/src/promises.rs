//! What a drill promises, and whether the clients' record keeps it.

use anyhow::{Result, ensure};
use dob_clients::history::Findings;
use serde::Deserialize;
use std::time::Duration;

/// Limits of what clients may see; what is not named is not limited.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Promises {
    write_downtime_s: Option<u64>,
    latency_s: Option<u64>,
    failed_greetings: Option<usize>,
    stale_greetings: Option<usize>,
    lost: Option<usize>,
    errors: Option<Vec<String>>,
    /// A control, which shows what the others hold against.
    #[serde(default)]
    must_fail: bool,
    /// The same for what was acknowledged.
    #[serde(default)]
    must_lose: bool,
}

impl Promises {
    /// Checks the figures; the error says which promise is broken.
    pub fn check(&self, figures: &Findings) -> Result<()> {
        self.check_with_patience(figures, if std::env::var_os("CI").is_some() { 2 } else { 1 })
    }

    fn check_with_patience(&self, figures: &Findings, patience: u64) -> Result<()> {
        let at_most = |what: &str, found: usize, limit: Option<usize>| {
            ensure!(limit.is_none_or(|limit| found <= limit), "{found} {what}, at most {limit:?}: {figures:?}");
            Ok(())
        };
        at_most("acknowledged dates lost", figures.lost.len(), self.lost)?;
        at_most("greetings failed", figures.failed_greetings, self.failed_greetings)?;
        at_most("greetings older than what their client knew", figures.stale_greetings, self.stale_greetings)?;
        ensure!(
            !self.must_fail || !figures.errors.is_empty(),
            "no request failed, and without what is left out some must"
        );
        ensure!(
            !self.must_lose || !figures.lost.is_empty(),
            "no acknowledged date was lost, and without what is left out some must"
        );
        if let Some(kinds) = &self.errors {
            let other = figures.errors.keys().find(|kind| !kinds.contains(kind));
            ensure!(other.is_none(), "errors other than {kinds:?}: {figures:?}");
        }
        let within = |what: &str, took: Duration, limit_s: Option<u64>| {
            let took = took.as_secs_f64();
            ensure!(
                limit_s.is_none_or(|limit| took <= limit as f64),
                "{took:.2} s {what}, at most {limit_s:?} s: {figures:?}"
            );
            Ok(())
        };
        within("without a save", figures.write_downtime, self.write_downtime_s.map(|limit| patience * limit))?;
        within("for the slowest call", figures.slowest, self.latency_s)
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
