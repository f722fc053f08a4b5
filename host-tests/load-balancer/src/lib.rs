//! A load balancer for a Kubernetes cluster, which behaves like AWS's network load balancer with its target group and the AWS load
//! balancer controller.
//!
//! `targets` decides, without clock or network. `data_plane` acts on that with `haproxy` and `health`. `kubernetes` finds the endpoints.
//! `controller` connects both, and `conditions` reports to pods. It imitates AWS's delays, too: a pod that terminates gets new
//! connections for four minutes more.

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

/// The resource definition of TargetGroupBindings. A cluster must have it before the load balancer starts.
pub const TARGET_GROUP_BINDINGS: &str = include_str!("../kubernetes/target-group-bindings.yaml");
/// The admission policy that gives pods their readiness gate.
pub const READINESS_GATES: &str = include_str!("../kubernetes/readiness-gates.yaml");
