//! The table of all drills' figures: printed, kept in `docs/drills/README.md`, and in short in `README.md`.

use crate::catalogue::Drill;
use crate::timeline::{directory, seconds};
use anyhow::Result;
use dob_clients::history::Findings;
use std::collections::BTreeMap;

const HEAD: &str = "\
| drill | acknowledged saves | lost | longest without a save, s | longest without a greeting, s | failed saves | failed greetings | backwards | slowest call, s | |
|---|--:|--:|--:|--:|--:|--:|--:|--:|---|";

/// A line of the table.
pub(crate) struct Row {
    pub drill: String,
    pub figures: Option<Findings>,
    pub note: String,
}

/// The rows of this run.
pub(crate) fn text(rows: &[Row]) -> String {
    rows.iter().fold(HEAD.to_owned(), |table, row| table + "\n" + &line(row))
}

fn line(row: &Row) -> String {
    let Some(figures) = &row.figures else { return format!("| {} | | | | | | | | | {} |", row.drill, row.note) };
    let picture = format!("[{0}]({0}.svg)", row.drill);
    let errors: Vec<String> = figures.errors.iter().map(|(kind, count)| format!("{count} × {kind}")).collect();
    let note = [row.note.clone(), errors.join(", ")].into_iter().filter(|part| !part.is_empty());
    format!(
        "| {picture} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
        figures.acknowledged,
        figures.lost.len(),
        seconds(figures.write_downtime),
        seconds(figures.read_downtime),
        figures.failed_saves,
        figures.failed_greetings,
        figures.stale_greetings,
        seconds(figures.slowest),
        note.collect::<Vec<_>>().join("; ")
    )
}

/// Puts the rows in the place of those of an earlier run, and leaves the other drills' rows.
pub(crate) fn keep(rows: &[Row]) -> Result<()> {
    std::fs::create_dir_all(directory())?;
    let file = directory().join("README.md");
    let old = std::fs::read_to_string(&file).unwrap_or_default();
    let name = |line: &str| {
        line.trim_start_matches("| ").trim_start_matches('[').split([' ', ']']).next().unwrap_or("").to_owned()
    };
    let is_row = |line: &&str| line.starts_with("| ") && !line.starts_with("| drill ");
    let mut lines: BTreeMap<String, String> =
        old.lines().filter(is_row).map(|line| (name(line), line.to_owned())).collect();
    lines.extend(rows.iter().map(|row| (row.drill.clone(), line(row))));
    let ordered = Drill::all().into_iter().filter_map(|drill| lines.remove(&drill.name));
    let table = ordered.fold(HEAD.to_owned(), |table, line| table + "\n" + &line);
    let text = format!(
        "# Drills

Measured by `make drill` on the lab's nodes; a single drill is `make drill D=<name>`. Those from `three-rollouts` on are `make rollout`'s, on
the cluster, where pods and targets come and go fifteen times as fast as on AWS. 12 clients save and greet, each every
100 ms, and half a second after a call that failed. A failed call is a 503 within the service's limits, unless the last column says
otherwise. *Lost* counts acknowledged dates that are not there at the end; *backwards* counts greetings made from an older date than
the same client knew. Each name leads to the drill's timeline. [How the newest full run looked on the database's
dashboard](dashboard.svg).

{table}
"
    );
    std::fs::write(file, text)?;
    show(rows)
}

/// Puts the figures into the rows of other documents that lead to the drills' pictures.
fn show(rows: &[Row]) -> Result<()> {
    rewrite("../../README.md", |line| rows.iter().find_map(|row| overview(line, row)))?;
    rewrite("../promises.md", |line| rows.iter().find_map(|row| promise(line, row)))
}

/// `| [title](picture) | lost | without a save | failed greetings |`
fn overview(line: &str, row: &Row) -> Option<String> {
    let picture = format!("](docs/drills/{}.svg) |", row.drill);
    let (title, figures) = (line.split_once(&picture)?.0, row.figures.as_ref()?);
    let gap = seconds(figures.write_downtime);
    Some(format!("{title}{picture} {} | {gap} s | {} |", figures.lost.len(), figures.failed_greetings))
}

/// `| fault | promised RPO | lost | promised RTO | without a save | [drill](picture) |`; a row of several drills stays.
fn promise(line: &str, row: &Row) -> Option<String> {
    let picture = format!("| [{0}](drills/{0}.svg) |", row.drill);
    let (cells, figures) = (line.strip_suffix(&picture)?, row.figures.as_ref()?);
    let [_, fault, rpo, _, rto, _] = cells.split('|').collect::<Vec<_>>().try_into().ok()?;
    let lost = if figures.lost.is_empty() { "0".to_owned() } else { format!("{:.1} s", figures.lost_seconds) };
    let gap = seconds(figures.write_downtime);
    Some(format!("|{fault}|{rpo}| {lost} |{rto}| {gap} s {picture}"))
}

/// Replaces the lines of a document that this has another text for.
fn rewrite(document: &str, line: impl Fn(&str) -> Option<String>) -> Result<()> {
    let file = directory().join(document);
    let text = std::fs::read_to_string(&file)?;
    let lines: Vec<String> = text.lines().map(|old| line(old).unwrap_or_else(|| old.to_owned())).collect();
    Ok(std::fs::write(file, lines.join("\n") + "\n")?)
}
