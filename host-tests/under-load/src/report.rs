//! The findings of a run, as a table in Markdown.

use dob_clients::history::Findings;
use std::time::Duration;

/// The report of one run.
pub fn markdown(title: &str, took: Duration, operations: usize, findings: &Findings) -> String {
    let errors: Vec<String> = findings.errors.iter().map(|(error, times)| format!("{error} × {times}")).collect();
    let rows = [
        ("the command took", seconds(took)),
        ("operations under load", operations.to_string()),
        ("acknowledged dates", findings.acknowledged.to_string()),
        ("of them lost", findings.lost.len().to_string()),
        ("stale greetings", findings.stale_greetings.to_string()),
        ("failed saves", findings.failed_saves.to_string()),
        ("failed greetings", findings.failed_greetings.to_string()),
        ("write downtime", seconds(findings.write_downtime)),
        ("read downtime", seconds(findings.read_downtime)),
        ("slowest operation", seconds(findings.slowest)),
        ("errors", if errors.is_empty() { "none".to_owned() } else { errors.join(", ") }),
    ];
    let rows: Vec<String> = rows.iter().map(|(name, value)| format!("| {name} | {value} |")).collect();
    format!("| {title} | |\n|---|---|\n{}\n", rows.join("\n"))
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}
