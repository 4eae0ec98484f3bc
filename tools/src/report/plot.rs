//! The report as a plot: cost per packet, and latency, over the number of viewers.

use std::path::Path;

use plotters::prelude::*;

use super::{Report, Step};

const SIZE: (u32, u32) = (800, 800);

/// Writes an SVG file.
///
/// # Errors
/// When the file cannot be written, or there is nothing to plot.
pub fn write(report: &Report, path: &Path) -> anyhow::Result<()> {
    let mut steps: Vec<&Step> = report.steps.iter().collect();
    steps.sort_by_key(|step| step.viewers);
    anyhow::ensure!(!steps.is_empty(), "nothing was measured");
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        area.fill(&WHITE).map_err(drawing)?;
        let (upper, lower) = area.split_vertically(SIZE.1 / 2);
        let cost = |of: fn(&Step) -> Option<f64>| points(&steps, of);
        let lines = [
            (
                "server",
                BLUE,
                cost(|step| step.server.as_ref().map(|s| s.ns_per_packet)),
            ),
            (
                "generator",
                RED,
                cost(|step| Some(step.generator.ns_per_packet)),
            ),
        ];
        chart(&upper, "CPU per delivered packet", "ns", &lines).map_err(drawing)?;
        let lines = [
            (
                "p50",
                BLUE,
                cost(|step| Some(step.latency.p50_us as f64 / 1000.0)),
            ),
            (
                "p99",
                MAGENTA,
                cost(|step| Some(step.latency.p99_us as f64 / 1000.0)),
            ),
            (
                "p99.9",
                RED,
                cost(|step| Some(step.latency.p999_us as f64 / 1000.0)),
            ),
        ];
        chart(&lower, "latency, publisher to viewer", "ms", &lines).map_err(drawing)?;
        area.present().map_err(drawing)?;
    }
    std::fs::write(path, svg)?;
    Ok(())
}

type Line<'a> = (&'a str, RGBColor, Vec<(f64, f64)>);

fn points(steps: &[&Step], of: fn(&Step) -> Option<f64>) -> Vec<(f64, f64)> {
    steps
        .iter()
        .filter_map(|step| Some((step.viewers as f64, of(step)?)))
        .collect()
}

fn chart<B: DrawingBackend>(
    area: &DrawingArea<B, plotters::coord::Shift>,
    title: &str,
    unit: &str,
    lines: &[Line<'_>],
) -> Result<(), DrawingAreaErrorKind<B::ErrorType>> {
    let all = lines.iter().flat_map(|(_, _, points)| points);
    let (mut right, mut top) = (1.0f64, f64::MIN_POSITIVE);
    for (x, y) in all {
        right = right.max(*x);
        top = top.max(*y);
    }
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(64)
        .build_cartesian_2d(0.0..right * 1.05, 0.0..top * 1.1)?;
    chart
        .configure_mesh()
        .x_desc("viewers")
        .y_desc(unit)
        .draw()?;
    for (name, color, points) in lines {
        let color = *color;
        chart
            .draw_series(LineSeries::new(points.iter().copied(), color))?
            .label(*name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], color));
        let dots = points
            .iter()
            .map(|point| Circle::new(*point, 3, color.filled()));
        chart.draw_series(dots)?;
    }
    chart
        .configure_series_labels()
        .background_style(WHITE)
        .border_style(BLACK)
        .draw()?;
    Ok(())
}

fn drawing(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow::anyhow!("cannot draw: {error}")
}
