//! The list of all drills, `drills.toml`.

use crate::promises::Promises;
use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use std::time::Duration;

const CATALOGUE: &str = include_str!("../drills.toml");
/// The name that selects all drills.
const ALL: &str = "all";

/// A drill and its promises.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drill {
    /// Its name on the command line and in documents.
    pub name: String,
    /// Where it runs.
    #[serde(default)]
    pub testbed: Testbed,
    /// Whether it runs on every change.
    #[serde(default)]
    pub each_change: bool,
    /// Whether it boots the lab itself; any other drill starts when both regions have booted.
    #[serde(default)]
    pub(crate) boots: bool,
    /// Whether its cluster has metrics, network policies and the descheduler.
    #[serde(default)]
    pub(crate) needs_addons: bool,
    /// Whether its lab has the nodes of the newer PostgreSQL.
    #[serde(default)]
    needs_newer_postgresql: bool,
    deadline_s: u64,
    /// The deadline with the waiting times of AWS, if it differs.
    full_size_deadline_s: Option<u64>,
    /// Limits for what clients see.
    #[serde(default)]
    pub(crate) promises: Promises,
}

/// Where a drill runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Testbed {
    /// The database nodes of two regions, with the component in front of them.
    #[default]
    Lab,
    /// SpinKube with one database behind it.
    Cluster,
    /// SpinKube with the lab's database nodes behind it.
    ClusterOnLab,
}

/// The drills of a run.
#[derive(Debug, Clone)]
pub struct Selection {
    /// In the order of a full run.
    pub drills: Vec<Drill>,
    /// Whether these are all drills of their testbeds.
    pub is_everything: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Catalogue {
    drill: Vec<Drill>,
}

impl Drill {
    /// All drills in the order of a full run.
    pub fn all() -> Vec<Drill> {
        let catalogue: Catalogue = toml::from_str(CATALOGUE).expect("drills.toml is tested");
        catalogue.drill
    }

    /// All drills of some testbeds.
    pub fn of(testbeds: &[Testbed]) -> Vec<Drill> {
        Drill::all().into_iter().filter(|drill| testbeds.contains(&drill.testbed)).collect()
    }

    /// The time after which a drill has failed.
    pub(crate) fn deadline(&self, is_full_size: bool) -> Duration {
        let full_size = self.full_size_deadline_s.filter(|_| is_full_size);
        Duration::from_secs(full_size.unwrap_or(self.deadline_s))
    }
}

impl Selection {
    /// Selects drills of some testbeds by name, or `all`; without a name, those that run on every change.
    pub fn by(testbeds: &[Testbed], names: &[String]) -> Result<Self> {
        let all = Drill::of(testbeds);
        let known = || all.iter().map(|drill| drill.name.as_str()).collect::<Vec<_>>().join(", ");
        let is_known = |name: &String| name == ALL || all.iter().any(|drill| drill.name == *name);
        let unknown = names.iter().find(|name| !is_known(name));
        ensure!(unknown.is_none(), "there is no drill {}; there are: {}", unknown.context("a name")?, known());
        let is_chosen = |drill: &&Drill| match names {
            [] => drill.each_change,
            _ => names.iter().any(|name| *name == ALL || *name == drill.name),
        };
        let drills: Vec<Drill> = all.iter().filter(is_chosen).cloned().collect();
        Ok(Self { is_everything: drills.len() == all.len(), drills })
    }

    /// Whether a drill needs the cluster's addons.
    pub fn needs_addons(&self) -> bool {
        self.drills.iter().any(|drill| drill.needs_addons)
    }

    /// Whether a drill needs the newer PostgreSQL.
    pub fn needs_newer_postgresql(&self) -> bool {
        self.drills.iter().any(|drill| drill.needs_newer_postgresql)
    }

    /// The drills of one testbed.
    pub fn at(&self, testbed: Testbed) -> impl Iterator<Item = &Drill> {
        self.drills.iter().filter(move |drill| drill.testbed == testbed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(names: &[&str]) -> Result<Vec<String>> {
        let names: Vec<String> = names.iter().map(|name| name.to_string()).collect();
        Ok(Selection::by(&[Testbed::Lab], &names)?.drills.into_iter().map(|drill| drill.name).collect())
    }

    #[test]
    fn drills_are_chosen_by_name_and_run_in_their_order() {
        assert_eq!(chosen(&["switchover", "leader-crash"]).unwrap(), ["leader-crash", "switchover"]);
        assert_eq!(chosen(&["all"]).unwrap().len(), Drill::of(&[Testbed::Lab]).len());
        let each_change = chosen(&[]).unwrap();
        assert!(each_change.len() > 3 && each_change.len() < Drill::of(&[Testbed::Lab]).len(), "{each_change:?}");
    }

    #[test]
    fn a_drill_that_does_not_exist_is_one_sentence_with_those_that_do() {
        let error = chosen(&["switchover", "typo"]).unwrap_err().to_string();
        assert!(error.starts_with("there is no drill typo; there are: cold-start, backups-damaged"), "{error}");
    }
}
