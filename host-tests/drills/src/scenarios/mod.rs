//! The scenarios: the steps of each drill, in terms of nodes, regions and clients.

mod backups;
mod database_behind_pods;
mod etcd;
mod faults;
mod leader;
mod monitoring;
mod nodes;
mod pods;
mod policies;
mod privilege_escalation;
mod regions;
mod repairs;
mod rollouts;
mod steps;
mod upgrades;

use crate::cluster::ClusterEnvironment;
use crate::lab::LabEnvironment;
use crate::outcome::Outcome;
use anyhow::{Context, Result};
use std::pin::Pin;

/// The steps of a drill in its environment; its promises are checked afterwards.
pub(crate) type Scenario<Environment> =
    for<'a> fn(&'a Environment) -> Pin<Box<dyn Future<Output = Result<Outcome>> + 'a>>;

macro_rules! scenarios {
    ($($name:literal => $scenario:path,)*) => { [$(($name, (|environment| Box::pin($scenario(environment))) as Scenario<_>)),*] };
}

/// The scenario of each drill of the database.
const ON_LAB: [(&str, Scenario<LabEnvironment>); 54] = scenarios! {
    "cold-start" => leader::cold_start,
    "backups-damaged" => backups::damaged,
    "leader-crash" => leader::crash,
    "leader-crash-replaying" => leader::crash_replaying,
    "leader-shutdown" => leader::shutdown,
    "leader-power-off" => leader::power_off,
    "leader-power-off-with-etcd" => leader::power_off_with_etcd,
    "leader-power-off-silent-bucket" => leader::power_off_with_silent_bucket,
    "leader-power-off-synchronous" => leader::power_off_synchronous,
    "leader-power-off-lagging" => leader::power_off_lagging,
    "power-cut-for-real" => leader::power_cut_for_real,
    "power-cut-without-fsync" => leader::power_cut_without_fsync,
    "zone-cut" => leader::zone_cut,
    "zone-cut-synchronous" => leader::zone_cut_synchronous,
    "leader-frozen" => leader::frozen,
    "patroni-frozen" => leader::patroni_frozen,
    "two-leaders" => leader::two_lead,
    "disk-stalled" => leader::disk_stalled,
    "volume-read-only" => leader::volume_read_only,
    "switchover" => leader::switchover,
    "replica-lost" => faults::replica_lost,
    "witness-lost" => faults::witness_lost,
    "etcd-lost" => etcd::member_lost,
    "etcd-all-stopped" => etcd::all_stopped,
    "etcd-emptied" => etcd::emptied,
    "etcd-full" => etcd::full,
    "asymmetric-cut" => faults::asymmetric_cut,
    "clock-jumps" => faults::clock_jumps,
    "disk-full" => faults::disk_full,
    "replica-lagging" => faults::replica_lagging,
    "packets-dropped" => faults::packets_dropped,
    "connection-storm" => faults::connection_storm,
    "memory-exhausted" => faults::memory_exhausted,
    "password-rotated" => faults::password_rotated,
    "secrets-renewed" => faults::secrets_renewed,
    "node-replaced" => faults::node_replaced,
    "node-unfit" => faults::node_unfit,
    "majority-lost" => repairs::majority_lost,
    "slot-lost" => repairs::slot_lost,
    "checkpoint-stuck" => repairs::checkpoint_stuck,
    "replica-rebuilt" => repairs::replica_rebuilt,
    "connections-raised" => repairs::connections_raised,
    "minor-upgrade" => repairs::minor_upgrade,
    "major-upgrade" => upgrades::major,
    "pause-left-over" => repairs::pause_left_over,
    "work-left-over" => repairs::work_left_over,
    "page-damaged" => repairs::page_damaged,
    "restore" => backups::restore,
    "bucket-lost" => backups::bucket_lost,
    "archive-lost" => backups::archive_lost,
    "region-gone" => regions::gone,
    "fail-back" => regions::fail_back,
    "both-regions-lead" => regions::both_lead,
    "old-region-stays" => regions::old_stays,
};

/// The scenario of each drill of the cluster.
const ON_CLUSTER: [(&str, Scenario<ClusterEnvironment>); 29] = scenarios! {
    "three-rollouts" => rollouts::three,
    "rollout-without-pre-stop" => rollouts::without_pre_stop,
    "digest-missing" => rollouts::digest_missing,
    "node-power-off" => nodes::power_off,
    "pods-confined" => pods::confined,
    "deployers-escalate" => privilege_escalation::tried,
    "version-never-ready" => rollouts::never_ready,
    "version-answers-500" => rollouts::cannot_greet,
    "schema-step-fails" => rollouts::schema_fails,
    "rollout-restart" => rollouts::restarted,
    "operator-killed" => rollouts::operator_killed,
    "pod-frozen" => pods::frozen,
    "slow-bodies" => pods::slow_bodies,
    "slow-bodies-everywhere" => pods::slow_bodies_everywhere,
    "deployment-deleted" => pods::deployment_deleted,
    "spin-app-deleted" => pods::spin_app_deleted,
    "control-plane-cut-off" => pods::control_plane_cut_off,
    "cluster-zone-cut" => nodes::zone_cut,
    "node-drained" => nodes::drained,
    "containerd-restarted" => nodes::containerd_restarted,
    "containerd-restarted-everywhere" => nodes::containerd_restarted_everywhere,
    "shim-killed" => nodes::shim_killed,
    "database-away" => database_behind_pods::database_away,
    "password-rotated-behind-pods" => database_behind_pods::password_rotated,
    "authority-replaced" => database_behind_pods::authority_replaced,
    "network-policies" => policies::kept,
    "autoscaled" => pods::autoscaled,
    "requests-counted" => monitoring::requests_counted,
    "leader-lost-behind-pods" => database_behind_pods::leader_lost,
};

/// The scenario of a drill of the database.
pub(crate) fn on_lab(drill: &str) -> Result<Scenario<LabEnvironment>> {
    find(&ON_LAB, drill)
}

/// The scenario of a drill of the cluster.
pub(crate) fn on_cluster(drill: &str) -> Result<Scenario<ClusterEnvironment>> {
    find(&ON_CLUSTER, drill)
}

fn find<Environment>(scenarios: &[(&str, Scenario<Environment>)], drill: &str) -> Result<Scenario<Environment>> {
    let found = scenarios.iter().find(|(name, _)| *name == drill);
    found
        .map(|(_, scenario)| *scenario)
        .with_context(|| format!("drills.toml names {drill}, which has no scenario: add it in src/scenarios/mod.rs"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::{Drill, Testbed};

    #[test]
    fn every_drill_has_a_scenario_and_every_scenario_is_a_drill() {
        let drills = |testbeds: &[Testbed]| Drill::of(testbeds).into_iter().map(|drill| drill.name).collect::<Vec<_>>();
        assert_eq!(drills(&[Testbed::Lab]), ON_LAB.map(|(name, _)| name));
        assert_eq!(drills(&[Testbed::Cluster, Testbed::ClusterOnLab]), ON_CLUSTER.map(|(name, _)| name));
    }
}
