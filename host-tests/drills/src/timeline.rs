//! Draws the timeline of a drill: saves, greetings and errors per second, who led or served, and when things were done.

use crate::legend;
use crate::traffic::Timeline;
use anyhow::{Result, anyhow};
use dob_clients::history::Operation;
use dob_support::project_file;
use plotters::coord::Shift;
use plotters::prelude::*;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The size of the picture without its lanes, in pixels.
const SIZE: (u32, u32) = (1120, 330);
const LEGEND: u32 = 110;
/// The height for the heading and the marks' texts.
const HEAD: u32 = 84;
/// The width left of the curves.
const LEFT: u32 = 56;
const LANE: u32 = 16;
/// The seconds that one point of a curve covers.
const BUCKET: f64 = 0.5;
const ERRORS: RGBColor = RGBColor(220, 20, 60);
const SAVES: RGBColor = RGBColor(65, 105, 225);
const GREETINGS: RGBColor = RGBColor(46, 139, 87);
const LANES: RGBColor = RGBColor(255, 140, 0);

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn<'a> = Result<(), DrawingAreaErrorKind<<SVGBackend<'a> as DrawingBackend>::ErrorType>>;

/// The directory of the pictures of drills that succeeded.
pub(crate) fn directory() -> PathBuf {
    project_file("docs/drills")
}

/// Draws a timeline into `<drill>.svg` of a directory, unless the drill has no clients.
pub(crate) fn write(drill: &str, timeline: &Timeline, directory: &Path) -> Result<()> {
    if timeline.operations.is_empty() {
        return Ok(());
    }
    let file = directory.join(format!("{drill}.svg"));
    let names: BTreeSet<&String> = timeline.samples.iter().flat_map(|(_, names)| names).collect();
    let height = SIZE.1 + LANE * names.len() as u32;
    let root = SVGBackend::new(&file, (SIZE.0, height)).into_drawing_area();
    draw(&root, drill, timeline, &names).map_err(|error| anyhow!("the timeline of {drill}: {error}"))?;
    root.present().map_err(|error| anyhow!("the timeline of {drill}: {error}"))
}

fn draw<'a>(root: &Area<'a>, drill: &str, timeline: &Timeline, names: &BTreeSet<&String>) -> Drawn<'a> {
    root.fill(&WHITE)?;
    root.draw(&Text::new(drill.to_owned(), (LEFT as i32, 8), ("sans-serif", 18)))?;
    let (pictures, legend) = root.split_horizontally(SIZE.0 - LEGEND);
    let (curves, lanes) = pictures.split_vertically(SIZE.1);
    let end =
        timeline.operations.iter().map(|operation| operation.ended).max().unwrap_or_default().as_secs_f64().max(1.0);
    draw_curves(&curves, timeline, end)?;
    draw_marks(&curves, timeline, end)?;
    draw_lanes(&lanes, timeline, names, end)?;
    let entries = [("saves/s", SAVES), ("greetings/s", GREETINGS), ("errors/s", ERRORS), (timeline.lanes, LANES)];
    let entries = entries.map(|(name, colour)| (name.to_owned(), colour.to_rgba()));
    legend::draw(&legend.split_vertically(HEAD).1, &entries)
}

fn draw_curves<'a>(area: &Area<'a>, timeline: &Timeline, end: f64) -> Drawn<'a> {
    let saves = rates(timeline, end, Operation::saved);
    let greetings = rates(timeline, end, Operation::greeted);
    let errors = rates(timeline, end, |operation| operation.error.is_some());
    let most = [&saves, &greetings, &errors].iter().flat_map(|rates| rates.iter()).fold(1.0, |a: f64, b| a.max(*b));
    let mut chart = ChartBuilder::on(area)
        .margin_top(HEAD)
        .x_label_area_size(24)
        .y_label_area_size(LEFT)
        .build_cartesian_2d(0.0..end, 0.0..most * 1.05)?;
    chart.configure_mesh().light_line_style(TRANSPARENT).x_label_formatter(&|s| format!("{s:.0} s")).draw()?;
    let bars = errors.iter().enumerate().filter(|(_, rate)| **rate > 0.0).map(|(n, rate)| {
        let from = n as f64 * BUCKET;
        Rectangle::new([(from, 0.0), ((from + BUCKET).min(end), *rate)], ERRORS.mix(0.6).filled())
    });
    chart.draw_series(bars)?;
    for (rates, colour) in [(&greetings, GREETINGS), (&saves, SAVES)] {
        let points = rates.iter().enumerate().map(|(n, rate)| (((n as f64 + 0.5) * BUCKET).min(end), *rate));
        chart.draw_series(LineSeries::new(points, colour.stroke_width(2)))?;
    }
    Ok(())
}

/// Draws a line at each mark, with its text above the curves.
fn draw_marks<'a>(area: &Area<'a>, timeline: &Timeline, end: f64) -> Drawn<'a> {
    let (width, height) = area.dim_in_pixel();
    let room = f64::from(width - LEFT);
    for (n, (at, what)) in timeline.marks.iter().enumerate() {
        let x = LEFT as i32 + (at.as_secs_f64() / end * room) as i32;
        let y = 34 + 15 * (n as i32 % 3);
        area.draw(&PathElement::new([(x, y), (x, height as i32 - 24)], BLACK.mix(0.5)))?;
        let words = format!("{:.1} s {what}", at.as_secs_f64());
        // An estimate of the text's width; near the right edge the text is left of its line.
        let wide = words.len() as i32 * 6;
        let x = if x + wide > width as i32 { x - wide - 3 } else { x + 3 };
        area.draw(&Text::new(words, (x, y), ("sans-serif", 12)))?;
    }
    Ok(())
}

fn draw_lanes<'a>(area: &Area<'a>, timeline: &Timeline, names: &BTreeSet<&String>, end: f64) -> Drawn<'a> {
    let room = f64::from(area.dim_in_pixel().0 - LEFT);
    let x = |seconds: f64| LEFT as i32 + (seconds / end * room) as i32;
    for (n, name) in names.iter().enumerate() {
        let y = LANE as i32 * n as i32;
        area.draw(&Text::new(name.to_string(), (2, y + 2), ("sans-serif", 10)))?;
        for (from, to) in spans(timeline, name, end) {
            area.draw(&Rectangle::new([(x(from), y), (x(to), y + 12)], LANES.filled()))?;
        }
    }
    Ok(())
}

/// Operations per second in each bucket.
fn rates(timeline: &Timeline, end: f64, which: impl Fn(&Operation) -> bool) -> Vec<f64> {
    let mut rates = vec![0.0; (end / BUCKET).ceil() as usize + 1];
    for operation in timeline.operations.iter().filter(|operation| which(operation)) {
        rates[(operation.ended.as_secs_f64() / BUCKET) as usize] += 1.0 / BUCKET;
    }
    rates
}

/// The spans in which the samples contain a name.
fn spans(timeline: &Timeline, name: &String, end: f64) -> Vec<(f64, f64)> {
    let next = timeline.samples.iter().skip(1).map(|(at, _)| at.as_secs_f64()).chain([end]);
    let samples = timeline.samples.iter().zip(next).filter(|((at, _), _)| at.as_secs_f64() < end);
    let found = samples.filter(|((_, names), _)| names.contains(name));
    found.map(|((at, _), next)| (at.as_secs_f64(), next.min(end))).collect()
}

/// Seconds with one decimal, for tables.
pub(crate) fn seconds(duration: Duration) -> String {
    format!("{:.1}", duration.as_secs_f64())
}
