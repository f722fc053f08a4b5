//! The settings of the target group, read from the files that AWS gets them from: Terraform and the ConfigMap `drain`.

use anyhow::{Context, Result, ensure};
use dob_support::project_file;
use k8s_openapi::api::core::v1::ConfigMap;
use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

/// How long it takes until a pod with ready containers is a target: the controller must notice and call AWS.
const REGISTRATION_DELAY: Duration = Duration::from_secs(10);
/// How long a terminated pod still gets new connections. Users of the controller report 180 to 300 s (aws-load-balancer-controller#2366).
/// This value leaves out the time for which existing connections are kept after that.
const DEREGISTRATION_LAG: Duration = Duration::from_secs(240);
/// The minimum timeout of a check: the API does not get faster when the other times shrink.
const SHORTEST_TIMEOUT: Duration = Duration::from_secs(2);

/// How a target group registers and deregisters targets.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Decides which targets get connections.
    pub health_check: HealthCheck,
    /// How long it takes until a pod with ready containers is a target.
    pub registration_delay: Duration,
    /// How long a deregistered target still gets new connections.
    pub deregistration_lag: Duration,
    /// How long it keeps its existing connections after that.
    pub deregistration_delay: Duration,
}

/// The request that each target is sent periodically.
#[derive(Debug, Clone, PartialEq)]
pub struct HealthCheck {
    /// The path of the request.
    pub path: String,
    /// The status of a healthy target's answer.
    pub status: u16,
    /// The time from one check to the next.
    pub interval: Duration,
    /// How long an answer may take.
    pub timeout: Duration,
    /// Successes in a row that make a target healthy.
    pub successes: u32,
    /// Failures in a row that make a target unhealthy.
    pub failures: u32,
}

impl Settings {
    /// The settings of the project's target group on AWS.
    pub fn of_project() -> Result<Self> {
        let read = |file| std::fs::read_to_string(project_file(file)).with_context(|| format!("can't read {file}"));
        Self::parse(&read("terraform/modules/edge/main.tf")?, &read("k8s/base/drain.yaml")?)
    }

    /// Divides all times by a factor.
    pub fn scaled(&self, factor: f64) -> Self {
        let faster = |duration: Duration| duration.div_f64(factor);
        let check = &self.health_check;
        Self {
            health_check: HealthCheck {
                interval: faster(check.interval),
                timeout: faster(check.timeout).max(check.timeout.min(SHORTEST_TIMEOUT)),
                ..check.clone()
            },
            registration_delay: faster(self.registration_delay),
            deregistration_lag: faster(self.deregistration_lag),
            deregistration_delay: faster(self.deregistration_delay),
        }
    }

    fn parse(terraform: &str, drain: &str) -> Result<Self> {
        let check = health_check(terraform)
            .context("terraform/modules/edge/main.tf has no health check of its target group")?;
        let protocol: String = value(&check, "protocol")?;
        ensure!(protocol == "HTTP", "health checks use HTTP here, not {protocol}");
        let drain: ConfigMap = serde_saphyr::from_str(drain).context("k8s/base/drain.yaml is not a ConfigMap")?;
        let drain = drain.data.unwrap_or_default();
        let seconds = |name| Ok::<_, anyhow::Error>(Duration::from_secs(value(&drain, name)?));
        Ok(Self {
            health_check: HealthCheck {
                path: value(&check, "path")?,
                status: value(&check, "matcher")?,
                interval: seconds("health_check_interval_seconds")?,
                timeout: Duration::from_secs(value(&check, "timeout")?),
                successes: value(&drain, "healthy_threshold_checks")?,
                failures: value(&drain, "unhealthy_threshold_checks")?,
            },
            registration_delay: REGISTRATION_DELAY,
            deregistration_lag: DEREGISTRATION_LAG,
            deregistration_delay: seconds("deregistration_delay_seconds")?,
        })
    }
}

/// The constants in the target group's block `health_check`, without quotes and comments.
fn health_check(terraform: &str) -> Option<BTreeMap<String, String>> {
    let (_, group) = terraform.split_once("resource \"aws_lb_target_group\" \"pods\" {")?;
    let (_, block) = group.split_once("health_check {")?;
    let (block, _) = block.split_once('}')?;
    let assignment = |line: &str| {
        let (name, value) = line.split('#').next()?.split_once('=')?;
        Some((name.trim().to_owned(), value.trim().trim_matches('"').to_owned()))
    };
    Some(block.lines().filter_map(assignment).collect())
}

fn value<T: FromStr>(values: &BTreeMap<String, String>, name: &str) -> Result<T> {
    let text = values.get(name).with_context(|| format!("the target group's {name} is missing"))?;
    text.parse().ok().with_context(|| format!("the target group's {name} is not usable: {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERRAFORM: &str = r#"
resource "aws_lb_target_group" "pods" {
  protocol = "TCP"
  health_check {
    protocol = "HTTP"
    path     = "/ready"
    matcher  = "204"
    interval = var.drain.interval_seconds
    timeout  = 6 # seconds
  }
}"#;
    const DRAIN: &str = r#"
apiVersion: v1
kind: ConfigMap
data:
  deregistration_delay_seconds: "30"
  health_check_interval_seconds: "10"
  healthy_threshold_checks: "2"
  unhealthy_threshold_checks: "3""#;

    #[test]
    fn the_figures_are_those_of_terraform_and_drain() {
        let settings = Settings::parse(TERRAFORM, DRAIN).unwrap();
        let check = HealthCheck {
            path: "/ready".to_owned(),
            status: 204,
            interval: Duration::from_secs(10),
            timeout: Duration::from_secs(6),
            successes: 2,
            failures: 3,
        };
        assert_eq!((settings.health_check, settings.deregistration_delay), (check, Duration::from_secs(30)));
        Settings::of_project().unwrap();
    }

    #[test]
    fn a_missing_or_invalid_setting_is_named() {
        let error = |terraform: &str, drain: &str| format!("{:#}", Settings::parse(terraform, drain).unwrap_err());
        assert!(error("", DRAIN).contains("no health check"));
        assert!(error(&TERRAFORM.replace("= \"HTTP\"", "= \"TCP\""), DRAIN).ends_with("not TCP"));
        assert!(error(&TERRAFORM.replace("204", "200-299"), DRAIN).ends_with("matcher is not usable: 200-299"));
        assert!(
            error(TERRAFORM, &DRAIN.replace("healthy_threshold", "other"))
                .contains("healthy_threshold_checks is missing")
        );
    }

    #[test]
    fn the_factor_shortens_every_time_except_the_answers() {
        let scaled = Settings::parse(TERRAFORM, DRAIN).unwrap().scaled(10.0);
        assert_eq!(scaled.health_check.interval, Duration::from_secs(1));
        assert_eq!(scaled.deregistration_delay, Duration::from_secs(3));
        assert_eq!(scaled.deregistration_lag, DEREGISTRATION_LAG / 10);
        assert_eq!(scaled.health_check.timeout, SHORTEST_TIMEOUT);
    }
}
