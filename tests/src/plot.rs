//! Distributions that tests measured, summed up in a line and kept as pictures for a person.

use std::env;
use std::fmt::Display;
use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::prelude::*;

const SIZE: (u32, u32) = (800, 400);

/// How one viewer joined.
#[derive(Debug, Clone, Copy)]
pub struct Join {
    /// Time since the publisher's latest keyframe, in milliseconds.
    pub keyframe_age_ms: f64,
    /// From the answer to the first picture, in milliseconds.
    pub first_picture_ms: f64,
    /// From the answer to the first picture of the present, in milliseconds.
    pub present_ms: f64,
}

/// The percentiles of joins in words; draws them as `name.svg` into the folder `FANMILL_PLOTS` if
/// that is set.
///
/// # Errors
/// If the file cannot be written.
pub fn joins(joins: &[Join], name: &str) -> Result<String> {
    if let Some(folder) = env::var_os("FANMILL_PLOTS") {
        std::fs::create_dir_all(&folder)?;
        let mut svg = String::new();
        draw(joins, &mut svg).map_err(|error| anyhow!("cannot draw: {error}"))?;
        std::fs::write(Path::new(&folder).join(format!("{name}.svg")), svg)?;
    }
    let first = percentiles(joins.iter().map(|join| join.first_picture_ms));
    let present = percentiles(joins.iter().map(|join| join.present_ms));
    Ok(format!(
        "{} joins: first picture {first}, present {present} after the answer",
        joins.len()
    ))
}

fn percentiles(values: impl Iterator<Item = f64>) -> impl Display {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let at = |share: f64| {
        let place = (share * values.len() as f64).ceil() as usize;
        values.get(place.saturating_sub(1)).copied().unwrap_or(0.0)
    };
    let (p50, p90, p99) = (at(0.5), at(0.9), at(0.99));
    format!("p50 {p50:.0} p90 {p90:.0} p99 {p99:.0} ms")
}

fn draw(joins: &[Join], svg: &mut String) -> Result<(), Box<dyn std::error::Error>> {
    let most = |of: fn(&Join) -> f64| joins.iter().map(of).fold(1.0, f64::max);
    let right = most(|join| join.keyframe_age_ms) / 1000.0;
    let top = most(|join| join.present_ms.max(join.first_picture_ms));
    let area = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .caption("From the answer to the picture", ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(64)
        .build_cartesian_2d(0.0..right * 1.05, 0.0..top * 1.1)?;
    chart
        .configure_mesh()
        .x_desc("seconds since the keyframe when joining")
        .y_desc("ms")
        .draw()?;
    for first in [true, false] {
        let (name, color) = match first {
            true => ("first picture", BLUE),
            false => ("picture of the present", RED),
        };
        let points = joins.iter().map(|join| {
            let ms = if first {
                join.first_picture_ms
            } else {
                join.present_ms
            };
            Circle::new((join.keyframe_age_ms / 1000.0, ms), 3, color.filled())
        });
        chart
            .draw_series(points)?
            .label(name)
            .legend(move |at| Circle::new(at, 3, color.filled()));
    }
    chart
        .configure_series_labels()
        .background_style(WHITE)
        .border_style(BLACK)
        .draw()?;
    area.present()?;
    Ok(())
}
