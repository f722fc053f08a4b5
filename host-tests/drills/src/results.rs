//! The page of all results, `docs/drills/results.md`: each drill's promises beside the figures of its newest run.

use crate::catalogue::Drill;
use crate::timeline::{directory, seconds};
use crate::traffic::today;
use anyhow::{Context, Result};
use dob_clients::history::Findings;
use dob_support::{cmd, project_file, read};
use std::collections::BTreeMap;
use std::path::PathBuf;

const INTRODUCTION: &str = "\
# Results of the drills

<!-- Generated: each run of `make drill` or `make rollout` replaces the rows of the drills that succeeded. Do not edit it. -->

One row for each drill, from its newest run. *Promises* are the limits in `host-tests/drills/drills.toml`; a drill that exceeds one fails.
A name leads to the drill's timeline. [How to read the columns](README.md#how-to-read-the-results).

";
const HEAD: &str = "\
| drill | promises | saves acknowledged | lost | write downtime, s | read downtime, s | failed saves | failed greetings | stale greetings | slowest answer, s | measured | notes |
|---|---|--:|--:|--:|--:|--:|--:|--:|--:|---|---|
";
/// Columns between the promises and the notes.
const FIGURES: usize = 9;

/// The outcome of a drill's newest run, as the cells of its row.
pub(crate) struct Row {
    figures: [String; FIGURES],
    notes: String,
}

/// The rows of some drills, by the drills' names.
pub(crate) type Rows = BTreeMap<String, Row>;

impl Row {
    /// The row of a drill that has just succeeded; one without clients has only notes.
    pub fn new(findings: Option<&Findings>, note: &str) -> Self {
        let measured = [today().to_string(), commit()].join(" ").trim_end().to_owned();
        let Some(findings) = findings else { return Self::without_clients(measured, note) };
        let errors = findings.errors.iter().map(|(kind, count)| format!("{count} × {kind}")).collect::<Vec<_>>();
        let notes = [note.to_owned(), errors.join(", ")].into_iter().filter(|part| !part.is_empty());
        let figures = [
            findings.acknowledged.to_string(),
            lost(findings),
            seconds(findings.write_downtime),
            seconds(findings.read_downtime),
            findings.failed_saves.to_string(),
            findings.failed_greetings.to_string(),
            findings.stale_greetings.to_string(),
            seconds(findings.slowest),
            measured,
        ];
        Self { figures, notes: notes.collect::<Vec<_>>().join("; ") }
    }

    fn without_clients(measured: String, note: &str) -> Self {
        let mut figures: [String; FIGURES] = Default::default();
        figures[FIGURES - 1] = measured;
        Self { figures, notes: note.to_owned() }
    }

    /// Reads a line of the page; none for a line that is no row.
    fn parse(line: &str) -> Option<(String, Self)> {
        let cells = line.strip_prefix("| ")?.strip_suffix(" |")?.split(" | ").map(str::to_owned).collect::<Vec<_>>();
        let [link, _promises, figures @ .., notes] = cells.as_slice() else { return None };
        let figures = figures.to_vec().try_into().ok()?;
        let name = link.trim_start_matches('[').split(']').next()?.to_owned();
        Some((name, Self { figures, notes: notes.clone() }))
    }

    fn line(&self, drill: &Drill) -> String {
        let name = &drill.name;
        let has_timeline = directory().join(format!("{name}.svg")).exists();
        let link = if has_timeline { format!("[{name}]({name}.svg)") } else { name.clone() };
        format!("| {link} | {} | {} | {} |\n", drill.promises, self.figures.join(" | "), self.notes)
    }
}

/// How many acknowledged dates were lost, and over how long a time.
fn lost(findings: &Findings) -> String {
    match findings.lost.len() {
        0 => "0".to_owned(),
        count => format!("{count} over {:.1} s", findings.lost_seconds),
    }
}

/// The commit that is checked out; empty in a copy without Git.
fn commit() -> String {
    read(&cmd!("git", "-C", project_file(""), "rev-parse", "--short", "HEAD")).unwrap_or_default()
}

/// The table of these rows, in the order of the catalogue.
pub(crate) fn table(rows: &Rows) -> String {
    let lines = Drill::all().into_iter().filter_map(|drill| rows.get(&drill.name).map(|row| row.line(&drill)));
    HEAD.to_owned() + &lines.collect::<String>()
}

/// Replaces the rows of these drills on the page.
pub(crate) fn keep(rows: Rows) -> Result<()> {
    let page = std::fs::read_to_string(file()).with_context(|| format!("can't read {}", file().display()))?;
    Ok(std::fs::write(file(), rendered(&page, rows))?)
}

fn file() -> PathBuf {
    directory().join("results.md")
}

/// The page with these rows in place of their older ones; a drill that was never measured has a row without figures.
fn rendered(page: &str, new: Rows) -> String {
    let unmeasured = |drill: Drill| (drill.name, Row::without_clients("not yet".to_owned(), ""));
    let mut rows: Rows = Drill::all().into_iter().map(unmeasured).collect();
    rows.extend(page.lines().filter_map(Row::parse));
    rows.extend(new);
    INTRODUCTION.to_owned() + &table(&rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// After a change of `drills.toml`: `UPDATE_RESULTS=1 cargo test -p dob-drills results`.
    #[test]
    fn the_page_has_the_promises_of_every_drill() {
        let page = std::fs::read_to_string(file()).unwrap();
        let expected = rendered(&page, Rows::new());
        if std::env::var_os("UPDATE_RESULTS").is_some() {
            std::fs::write(file(), &expected).unwrap();
        } else {
            assert!(
                page == expected,
                "docs/drills/results.md differs from drills.toml: run this with UPDATE_RESULTS=1"
            );
        }
    }

    #[test]
    fn a_row_comes_back_as_it_was_written() {
        let findings = Findings { lost: [("ann".to_owned(), 1)].into(), lost_seconds: 2.5, ..Findings::default() };
        let drill = Drill::all().into_iter().find(|drill| drill.name == "leader-crash").unwrap();
        for findings in [Some(&findings), None] {
            let line = Row::new(findings, "somebody leads").line(&drill);
            let (name, row) = Row::parse(line.trim_end()).unwrap();
            assert_eq!((name.as_str(), row.line(&drill)), ("leader-crash", line));
        }
    }

    #[test]
    fn a_run_replaces_the_rows_of_its_drills_and_no_others() {
        let rows = |note: &str| Rows::from([("switchover".to_owned(), Row::new(None, note))]);
        let before = rendered("", Rows::from([("leader-crash".to_owned(), Row::new(None, "kept"))]));
        let after = rendered(&rendered(&before, rows("old")), rows("new"));
        assert!(after.contains("| kept |") && after.contains("| new |") && !after.contains("| old |"), "{after}");
    }
}
