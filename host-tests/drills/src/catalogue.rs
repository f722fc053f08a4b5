//! Which drills there are: `drills.toml`.

use crate::promises::Promises;
use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use std::time::Duration;

const CATALOGUE: &str = include_str!("../drills.toml");
/// Names all drills.
const ALL: &str = "all";

/// One thing that goes wrong, or is done, and what must hold.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drill {
    /// What it is called on the command line and in every document.
    pub name: String,
    /// Where it is held.
    #[serde(default)]
    pub place: Place,
    /// Whether it runs on every change.
    #[serde(default)]
    pub each_change: bool,
    /// Whether it boots the lab itself; any other starts when both regions have booted.
    #[serde(default)]
    pub(crate) boots: bool,
    /// Whether its cluster has metrics, network policies and the descheduler.
    #[serde(default)]
    pub(crate) needs_addons: bool,
    deadline_s: u64,
    /// The same where every waiting time is as on AWS, if it is another.
    full_size_deadline_s: Option<u64>,
    /// What the clients' record must show.
    #[serde(default)]
    pub(crate) promises: Promises,
}

/// What a drill is held on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// The database nodes of two regions, with the component before them.
    #[default]
    Lab,
    /// SpinKube with one database behind it.
    Cluster,
    /// SpinKube with the lab's database nodes behind it.
    ClusterOnLab,
}

/// What a run is made of.
#[derive(Debug, Clone)]
pub struct Chosen {
    /// In the order of a full run.
    pub drills: Vec<Drill>,
    /// Whether these are all that there are at their places.
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

    /// All drills that are held at some places.
    pub fn of(places: &[Place]) -> Vec<Drill> {
        Drill::all().into_iter().filter(|drill| places.contains(&drill.place)).collect()
    }

    /// A drill that takes longer has failed.
    pub(crate) fn deadline(&self, is_full_size: bool) -> Duration {
        let full_size = self.full_size_deadline_s.filter(|_| is_full_size);
        Duration::from_secs(full_size.unwrap_or(self.deadline_s))
    }
}

impl Chosen {
    /// The drills of some places that are named, `all` of them, or without a name those of every change.
    pub fn by(places: &[Place], names: &[String]) -> Result<Self> {
        let all = Drill::of(places);
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

    /// Whether some need the cluster's addons.
    pub fn needs_addons(&self) -> bool {
        self.drills.iter().any(|drill| drill.needs_addons)
    }

    /// Those that are held at a place.
    pub fn at(&self, place: Place) -> impl Iterator<Item = &Drill> {
        self.drills.iter().filter(move |drill| drill.place == place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(names: &[&str]) -> Result<Vec<String>> {
        let names: Vec<String> = names.iter().map(|name| name.to_string()).collect();
        Ok(Chosen::by(&[Place::Lab], &names)?.drills.into_iter().map(|drill| drill.name).collect())
    }

    #[test]
    fn drills_are_chosen_by_name_and_run_in_their_order() {
        assert_eq!(chosen(&["switchover", "leader-crash"]).unwrap(), ["leader-crash", "switchover"]);
        assert_eq!(chosen(&["all"]).unwrap().len(), Drill::of(&[Place::Lab]).len());
        let each_change = chosen(&[]).unwrap();
        assert!(each_change.len() > 3 && each_change.len() < Drill::of(&[Place::Lab]).len(), "{each_change:?}");
    }

    #[test]
    fn a_drill_that_does_not_exist_is_one_sentence_with_those_that_do() {
        let error = chosen(&["switchover", "typo"]).unwrap_err().to_string();
        assert!(error.starts_with("there is no drill typo; there are: cold-start, leader-crash"), "{error}");
    }
}
