//! What came of it, drawn as SVG.

use plotters::prelude::*;

use super::Outcome;
use super::population::{Audience, quantile};

const SIZE: (u32, u32) = (800, 360);

type Drawn = Result<String, Box<dyn std::error::Error>>;

/// The capacity of a link over time, what was believed of it, what was shown, and what a download got.
///
/// # Errors
/// If it cannot be drawn.
pub fn over_time(caption: &str, outcome: &Outcome) -> Drawn {
    let mut svg = String::new();
    let megabits = |bps: f64| bps / 1e6;
    let most = outcome.trace.iter().map(|m| m.capacity_bps).max();
    let top = megabits(most.unwrap_or(1) as f64) * 1.3;
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        area.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&area)
            .caption(caption, ("sans-serif", 18))
            .margin(12)
            .x_label_area_size(36)
            .y_label_area_size(56)
            .build_cartesian_2d(0.0..outcome.trace.len() as f64, 0.0..top)?;
        chart
            .configure_mesh()
            .x_desc("seconds")
            .y_desc("Mbit/s")
            .draw()?;
        let mut line = |name: &str, color: RGBColor, of: &dyn Fn(usize) -> f64| {
            let points = (0..outcome.trace.len()).map(|at| (at as f64 + 1.0, of(at).min(top)));
            let series = LineSeries::new(points, color.stroke_width(2));
            chart.draw_series(series).map(|drawn| {
                drawn
                    .label(name)
                    .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], color));
            })
        };
        let trace = &outcome.trace;
        line("the link", BLACK, &|at| {
            megabits(trace[at].capacity_bps as f64)
        })?;
        line("the estimate", BLUE, &|at| {
            megabits(trace[at].estimate_bps as f64)
        })?;
        line("the encoding shown", RED, &|at| {
            megabits(trace[at].shown_bps as f64)
        })?;
        if trace.iter().any(|moment| moment.download_bps > 0.0) {
            line("the download", RGBColor(0, 128, 0), &|at| {
                megabits(trace[at].download_bps)
            })?;
        }
        chart
            .configure_series_labels()
            .border_style(BLACK)
            .background_style(WHITE)
            .draw()?;
        area.present()?;
    }
    Ok(svg)
}

/// How many of an audience were shown how much of what fits, and waited in how long queues.
///
/// # Errors
/// If it cannot be drawn.
pub fn audience(audience: &Audience) -> Drawn {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        area.fill(&WHITE)?;
        let halves = area.split_evenly((1, 2));
        let percent: Vec<f64> = audience.utilisation.iter().map(|u| u * 100.0).collect();
        let queue: Vec<f64> = audience.queue_ms.iter().map(|q| q[1]).collect();
        let parts = [
            ("shown of what fits, %", 130.0, percent),
            ("95th percentile of the queue, ms", 300.0, queue),
        ];
        for (half, (name, right, values)) in halves.iter().zip(parts) {
            let mut chart = ChartBuilder::on(half)
                .margin(12)
                .x_label_area_size(36)
                .y_label_area_size(48)
                .build_cartesian_2d(0.0..right, 0.0..100.0)?;
            chart
                .configure_mesh()
                .x_desc(name)
                .y_desc("% of the viewers")
                .draw()?;
            let points = (0..=200).filter_map(|at| {
                let share = f64::from(at) / 200.0;
                let value = quantile(&values, share)?;
                Some((value.min(right), share * 100.0))
            });
            chart.draw_series(LineSeries::new(points, BLUE.stroke_width(2)))?;
        }
        area.present()?;
    }
    Ok(svg)
}
