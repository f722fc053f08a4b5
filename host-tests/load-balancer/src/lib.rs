//! The way into a Kubernetes cluster: what a network load balancer of AWS is with its target group, and the AWS load balancer
//! controller that keeps it.
//!
//! `targets` decides, without clock or network; `balancer` does it with `haproxy` and `health`; `kubernetes` says who is an
//! endpoint; `controller` brings both together, and `conditions` tells pods. What is worse on AWS than one would think is as bad
//! here: a pod that goes gets new connections for nearly a minute more.

mod conditions;
mod controller;
mod data_plane;
mod haproxy;
mod health;
mod kubernetes;
mod report;
mod settings;
mod targets;
#[cfg(test)]
mod tests;

pub use controller::LoadBalancer;
pub use settings::{HealthCheck, Settings};
pub use targets::{State, Target};

/// The resource definition of TargetGroupBindings; a cluster must have it before the way in starts.
pub const TARGET_GROUP_BINDINGS: &str = include_str!("../kubernetes/target-group-bindings.yaml");
/// The admission policy that gives pods their readiness gate.
pub const READINESS_GATES: &str = include_str!("../kubernetes/readiness-gates.yaml");
