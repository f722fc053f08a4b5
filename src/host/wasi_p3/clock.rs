//! Waits with a time limit.

use futures_util::future::{Either, select};
use spin_sdk::wasip3::clocks::monotonic_clock;
use std::pin::pin;
use std::time::Duration;

/// The result of `work`, or `None` if it takes longer than `limit`: then the work is dropped.
pub async fn within<T>(limit: Duration, work: impl Future<Output = T>) -> Option<T> {
    let limit = pin!(monotonic_clock::wait_for(limit.as_nanos() as u64));
    match select(pin!(work), limit).await {
        Either::Left((done, _)) => Some(done),
        Either::Right(_) => None,
    }
}
