//! Waiting for a condition.

use anyhow::{Result, anyhow};
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// The first pause between two attempts; each further one is 1.5 times as long.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
/// The longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

/// Repeats `attempt` until it succeeds, and returns its result.
///
/// The deadline also ends an attempt that hangs. The error says what was awaited, how long, and why the last attempt failed.
pub async fn eventually<T>(what: &str, deadline: Duration, mut attempt: impl AsyncFnMut() -> Result<T>) -> Result<T> {
    let mut last = anyhow!("the first attempt did not end");
    let attempts = async {
        let mut pause = FIRST_PAUSE;
        loop {
            match attempt().await {
                Ok(found) => break found,
                Err(error) => last = error,
            }
            sleep(pause).await;
            pause = (pause * 3 / 2).min(LONGEST_PAUSE);
        }
    };
    match timeout(deadline, attempts).await {
        Ok(found) => Ok(found),
        Err(_) => Err(last.context(format!("not within {deadline:?}: {what}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::ensure;

    #[tokio::test]
    async fn the_first_success_is_returned() {
        let mut attempts = 0;
        let found = eventually("the third attempt", Duration::from_secs(10), async || {
            attempts += 1;
            ensure!(attempts == 3, "attempt {attempts}");
            Ok(attempts)
        });
        assert_eq!(found.await.unwrap(), 3);
    }

    #[tokio::test]
    async fn a_deadline_that_passes_says_what_was_waited_for_and_what_was_seen() {
        let never = eventually::<()>("the moon", Duration::from_millis(30), async || Err(anyhow!("it is a cheese")));
        assert_eq!(format!("{:#}", never.await.unwrap_err()), "not within 30ms: the moon: it is a cheese");
    }

    #[tokio::test]
    async fn an_attempt_that_hangs_is_ended() {
        let hangs = eventually::<()>("an end", Duration::from_millis(30), async || std::future::pending().await);
        assert!(format!("{:#}", hangs.await.unwrap_err()).contains("an end: the first attempt did not end"));
    }
}
