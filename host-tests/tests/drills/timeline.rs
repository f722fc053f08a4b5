//! The picture of a drill: what was saved, greeted and refused in each half second, who led, and what was done when.

use crate::load::Record;
use anyhow::Result;
use dob_host::history::{Call, What};
use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

const WIDTH: f64 = 1000.0;
const HEIGHT: f64 = 200.0;
const LEFT: f64 = 60.0;
const TOP: f64 = 90.0;
const BUCKET: f64 = 0.5;
const LANE: f64 = 16.0;

/// Where the pictures stand.
pub fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/drills")
}

/// Draws a record into `docs/drills/<drill>.svg`.
pub fn write(drill: &str, record: &Record) -> Result<()> {
    std::fs::create_dir_all(directory())?;
    Ok(std::fs::write(directory().join(format!("{drill}.svg")), draw(drill, record)?)?)
}

fn draw(drill: &str, record: &Record) -> Result<String> {
    let end = record.calls.iter().map(|call| call.ended).max().unwrap_or_default().as_secs_f64().max(1.0);
    let is_save = |call: &Call| matches!(call.what, What::Save { .. });
    let saves = rates(record, end, |call| call.error.is_none() && is_save(call));
    let greetings = rates(record, end, |call| call.error.is_none() && !is_save(call));
    let errors = rates(record, end, |call| call.error.is_some());
    let most = [&saves, &greetings, &errors].iter().flat_map(|rates| rates.iter()).fold(1.0, |a: f64, b| a.max(*b));
    let leaders: BTreeSet<&String> = record.leaders.iter().flat_map(|(_, names)| names).collect();
    let height = TOP + HEIGHT + 60.0 + LANE * leaders.len() as f64;
    let mut svg = String::new();
    let x = |seconds: f64| LEFT + seconds / end * WIDTH;
    writeln!(
        svg,
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {} {height}" font-family="sans-serif" font-size="12">
<rect width="100%" height="100%" fill="white"/>
<text x="{LEFT}" y="20" font-size="16" font-weight="bold">{drill}</text>
<g><rect x="{LEFT}" y="30" width="10" height="10" fill="royalblue"/><text x="75" y="40">saves/s</text>
<rect x="140" y="30" width="10" height="10" fill="seagreen"/><text x="155" y="40">greetings/s</text>
<rect x="240" y="30" width="10" height="10" fill="crimson"/><text x="255" y="40">errors/s</text></g>"#,
        LEFT + WIDTH + 20.0
    )?;
    axes(&mut svg, end, most)?;
    for (bucket, rate) in errors.iter().enumerate().filter(|(_, rate)| **rate > 0.0) {
        let (width, size) = (BUCKET / end * WIDTH, rate / most * HEIGHT);
        let (left, top) = (x(bucket as f64 * BUCKET), TOP + HEIGHT - size);
        writeln!(
            svg,
            r#"<rect x="{left:.1}" y="{top:.1}" width="{width:.1}" height="{size:.1}" fill="crimson" opacity="0.6"/>"#
        )?;
    }
    for (rates, colour) in [(&greetings, "seagreen"), (&saves, "royalblue")] {
        let point = |(n, rate): (usize, &f64)| {
            format!("{:.1},{:.1}", x((n as f64 + 0.5) * BUCKET), TOP + HEIGHT - rate / most * HEIGHT)
        };
        let points: Vec<String> = rates.iter().enumerate().map(point).collect();
        writeln!(svg, r#"<polyline points="{}" fill="none" stroke="{colour}" stroke-width="2"/>"#, points.join(" "))?;
    }
    for (n, (at, what)) in record.marks.iter().enumerate() {
        let (x, y) = (x(at.as_secs_f64()), 58.0 + 12.0 * (n % 3) as f64);
        writeln!(
            svg,
            r#"<line x1="{x:.1}" x2="{x:.1}" y1="{y}" y2="{}" stroke="black" stroke-dasharray="3"/>"#,
            TOP + HEIGHT
        )?;
        // Near the right edge the words stand to the left of their line.
        let (x, anchor) = if x > LEFT + 0.75 * WIDTH { (x - 3.0, "end") } else { (x + 3.0, "start") };
        writeln!(svg, r#"<text x="{x:.1}" y="{y}" text-anchor="{anchor}">{:.1} s {what}</text>"#, at.as_secs_f64())?;
    }
    for (n, name) in leaders.iter().enumerate() {
        let y = TOP + HEIGHT + 34.0 + LANE * n as f64;
        writeln!(svg, r#"<text x="2" y="{:.1}" font-size="10">{name}</text>"#, y + 10.0)?;
        for (from, to) in spans(record, name, end) {
            writeln!(
                svg,
                r#"<rect x="{:.1}" y="{y}" width="{:.1}" height="12" fill="darkorange"/>"#,
                x(from),
                x(to) - x(from)
            )?;
        }
    }
    svg.push_str("</svg>\n");
    Ok(svg)
}

fn axes(svg: &mut String, end: f64, most: f64) -> Result<()> {
    let bottom = TOP + HEIGHT;
    writeln!(svg, r#"<path d="M{LEFT} {TOP}V{bottom}H{}" fill="none" stroke="gray"/>"#, LEFT + WIDTH)?;
    writeln!(svg, r#"<text x="{}" y="{TOP}" text-anchor="end">{most:.0}</text>"#, LEFT - 5.0)?;
    let step = if end > 120.0 { 20.0 } else { 5.0 };
    let ticks = (0..).map(|n| f64::from(n) * step).take_while(|seconds| *seconds <= end);
    for seconds in ticks {
        writeln!(
            svg,
            r#"<text x="{:.1}" y="{}" text-anchor="middle" fill="gray">{seconds} s</text>"#,
            LEFT + seconds / end * WIDTH,
            bottom + 16.0
        )?;
    }
    writeln!(svg, r#"<text x="2" y="{}" font-size="10" font-weight="bold">leads</text>"#, bottom + 30.0)?;
    Ok(())
}

/// Calls per second in each bucket of time.
fn rates(record: &Record, end: f64, which: impl Fn(&Call) -> bool) -> Vec<f64> {
    let mut rates = vec![0.0; (end / BUCKET).ceil() as usize + 1];
    for call in record.calls.iter().filter(|call| which(call)) {
        rates[(call.ended.as_secs_f64() / BUCKET) as usize] += 1.0 / BUCKET;
    }
    rates
}

/// From when to when a node led.
fn spans(record: &Record, name: &String, end: f64) -> Vec<(f64, f64)> {
    let next = record.leaders.iter().skip(1).map(|(at, _)| at.as_secs_f64()).chain([end]);
    let looks = record.leaders.iter().zip(next);
    looks.filter(|((_, names), _)| names.contains(name)).map(|((at, _), next)| (at.as_secs_f64(), next)).collect()
}

/// For the table.
pub fn seconds(duration: Duration) -> String {
    format!("{:.1}", duration.as_secs_f64())
}
