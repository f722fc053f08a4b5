//! Health checks.

use crate::settings::HealthCheck;
use crate::targets::Answer;
use anyhow::Result;
use reqwest::redirect::Policy;
use std::net::SocketAddr;

/// Checks targets, with a new connection each time, as AWS does.
#[derive(Clone)]
pub(crate) struct Checker {
    check: HealthCheck,
    client: reqwest::Client,
}

impl Checker {
    pub fn new(check: &HealthCheck) -> Result<Self> {
        let client = reqwest::Client::builder().no_proxy().redirect(Policy::none()).pool_max_idle_per_host(0);
        Ok(Self { check: check.clone(), client: client.timeout(check.timeout).build()? })
    }

    /// Checks a target; an error says what is wrong with its answer.
    pub async fn ask(&self, target: SocketAddr) -> Answer {
        let HealthCheck { path, status, timeout, .. } = &self.check;
        match self.client.get(format!("http://{target}{path}")).send().await {
            Ok(answer) if answer.status() == *status => Ok(()),
            Ok(answer) => Err(format!("{path} answered {}.", answer.status().as_u16())),
            Err(error) if error.is_timeout() => Err(format!("{path} did not answer within {timeout:?}.")),
            Err(_) => Err(format!("{path} can't be reached.")),
        }
    }
}
