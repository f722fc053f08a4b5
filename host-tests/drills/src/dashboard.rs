//! A picture of the database's dashboard over a full run: the panels' queries, answered by the lab's Prometheus and drawn by plotters
//! in place of Grafana.

use crate::legend;
use crate::timeline::directory;
use anyhow::{Context, Result, anyhow, ensure};
use dob_lab::{Prometheus, Series};
use plotters::prelude::*;
use serde::Deserialize;
use std::time::Duration;

const DASHBOARD: &str = include_str!("../../../observability/dashboards/database.json");
const COLUMNS: usize = 3;
/// The size of a panel in pixels.
const SIZE: (u32, u32) = (500, 230);
/// The width of a panel's legend in pixels.
const NAMES: u32 = 110;

#[derive(Deserialize)]
struct Dashboard {
    panels: Vec<Panel>,
}

#[derive(Deserialize)]
struct Panel {
    title: String,
    targets: Vec<Target>,
    #[serde(rename = "fieldConfig")]
    fields: Fields,
}

#[derive(Deserialize)]
struct Target {
    expr: String,
    #[serde(rename = "legendFormat")]
    legend: String,
}

#[derive(Deserialize)]
struct Fields {
    defaults: Defaults,
}

#[derive(Deserialize)]
struct Defaults {
    unit: String,
}

/// A line of a panel. A point is a time in minutes from the start, and a value.
struct Line {
    name: String,
    points: Vec<(f64, f64)>,
}

/// Draws the time until now into `docs/drills/dashboard.svg`. An empty panel is an error: its query is wrong.
pub(crate) async fn write(prometheus: &Prometheus, length: Duration) -> Result<()> {
    let dashboard: Dashboard = serde_json::from_str(DASHBOARD).context("observability/dashboards/database.json")?;
    let (width, rows) = (COLUMNS as u32 * SIZE.0, dashboard.panels.len().div_ceil(COLUMNS));
    let file = directory().join("dashboard.svg");
    let root = SVGBackend::new(&file, (width, rows as u32 * SIZE.1)).into_drawing_area();
    root.fill(&WHITE)?;
    for (area, panel) in root.split_evenly((rows, COLUMNS)).iter().zip(&dashboard.panels) {
        let mut lines = Vec::new();
        for target in &panel.targets {
            let expression = target.expr.replace("$region", ".+").replace("$__rate_interval", "30s");
            let found = prometheus.series(&expression, length).await?;
            lines.extend(found.into_iter().map(|series| line(&target.legend, series)));
        }
        ensure!(!lines.is_empty(), "the dashboard's panel {} shows nothing", panel.title);
        draw(area, panel, &lines, length).map_err(|error| anyhow!("the panel {}: {error}", panel.title))?;
    }
    Ok(root.present()?)
}

fn line(legend: &str, series: Series) -> Line {
    let fill = |name: String, (label, value): (&String, &String)| name.replace(&format!("{{{{{label}}}}}"), value);
    let name = series.labels.iter().fold(legend.to_owned(), fill);
    let points = series.points.into_iter().map(|(seconds, value)| (seconds / 60.0, value)).collect();
    Line { name, points }
}

fn draw<B: DrawingBackend>(
    area: &DrawingArea<B, plotters::coord::Shift>,
    panel: &Panel,
    lines: &[Line],
    length: Duration,
) -> Result<(), DrawingAreaErrorKind<B::ErrorType>> {
    let values = lines.iter().flat_map(|line| line.points.iter().map(|(_, value)| *value));
    let highest = values.fold(0.0, f64::max).max(f64::MIN_POSITIVE);
    let minutes = length.as_secs_f64() / 60.0;
    // A line is interrupted while its node was down.
    let gap = minutes / 100.0;
    let (curves, names) = area.split_horizontally(SIZE.0 - NAMES);
    let mut chart = ChartBuilder::on(&curves)
        .caption(&panel.title, ("sans-serif", 14))
        .margin(8)
        .x_label_area_size(20)
        .y_label_area_size(48)
        .build_cartesian_2d(0.0..minutes, 0.0..highest * 1.05)?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .y_labels(6)
        .x_labels(5)
        .x_label_formatter(&|minutes| format!("{minutes:.0} min"))
        .y_label_formatter(&|value| with_unit(*value, &panel.fields.defaults.unit))
        .draw()?;
    let colour = |n: usize| Palette99::pick(n).to_rgba();
    for (n, line) in lines.iter().enumerate() {
        let spans = line.points.chunk_by(|(earlier, _), (later, _)| later - earlier < gap);
        chart.draw_series(spans.map(|span| PathElement::new(span, colour(n))))?;
    }
    let entries: Vec<_> = lines.iter().enumerate().map(|(n, line)| (line.name.clone(), colour(n))).collect();
    legend::draw(&names, &entries)
}

fn with_unit(value: f64, unit: &str) -> String {
    match unit {
        "percentunit" => format!("{:.0} %", value * 100.0),
        "bytes" if value >= 1e6 => format!("{:.0} MB", value / 1e6),
        "bytes" => format!("{:.0} kB", value / 1e3),
        "s" if value >= 86400.0 => format!("{:.0} d", value / 86400.0),
        "s" if value >= 600.0 => format!("{:.0} min", value / 60.0),
        "s" => format!("{value:.0} s"),
        _ => format!("{value:.1}"),
    }
}
