//! Draws figures: one panel each, since their units differ, with the value as a bar, every round
//! as a dot, and the target as a dashed line.

use std::path::Path;

use anyhow::{Context, Result};
use plotters::coord::Shift;
use plotters::prelude::*;

use super::{Better, Figure, shown};

const WIDTH: u32 = 900;
const TITLE_HEIGHT: u32 = 40;
const PANEL_HEIGHT: u32 = 110;
const FONT: (&str, u32) = ("sans-serif", 14);

/// Writes the drawing as SVG.
pub(super) fn draw(path: &Path, title: &str, figures: &[Figure]) -> Result<()> {
    let panels = u32::try_from(figures.len())?.max(1);
    let size = (WIDTH, TITLE_HEIGHT + panels * PANEL_HEIGHT);
    let area = SVGBackend::new(path, size).into_drawing_area();
    area.fill(&WHITE)?;
    let area = area.titled(title, ("sans-serif", 22))?;
    let areas = area.split_evenly((figures.len().max(1), 1));
    for (panel, figure) in areas.iter().zip(figures) {
        draw_panel(panel, figure).with_context(|| format!("figure {}", figure.name))?;
    }
    area.present()
        .with_context(|| format!("{}: cannot be written", path.display()))
}

fn draw_panel(area: &DrawingArea<SVGBackend<'_>, Shift>, figure: &Figure) -> Result<()> {
    let most = figure
        .rounds
        .iter()
        .copied()
        .chain(figure.target)
        .fold(figure.value, f64::max);
    // From zero, so that lengths can be compared by eye.
    let end = if most > 0.0 { most * 1.1 } else { 1.0 };
    let mut chart = ChartBuilder::on(area)
        .margin(10)
        .caption(caption(figure), FONT)
        .x_label_area_size(24)
        .build_cartesian_2d(0.0..end, 0.0..1.0)?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .disable_y_axis()
        .x_labels(8)
        .x_label_formatter(&|value| shown(*value))
        .draw()?;
    let colour = if figure.met { BLUE } else { RED };
    let bar = [(0.0, 0.3), (figure.value, 0.7)];
    chart.draw_series([Rectangle::new(bar, colour.mix(0.25).filled())])?;
    chart.draw_series(
        figure
            .rounds
            .iter()
            .map(|round| Circle::new((*round, 0.5), 3, colour.filled())),
    )?;
    if let Some(target) = figure.target {
        let line = [(target, 0.0), (target, 1.0)];
        chart.draw_series(DashedLineSeries::new(line, 5, 4, BLACK.stroke_width(1)))?;
    }
    Ok(())
}

fn caption(figure: &Figure) -> String {
    let better = match figure.better {
        Better::Less => "less is better",
        Better::More => "more is better",
    };
    let target = match figure.target_text() {
        text if text.is_empty() => text,
        text => format!(", target {text}"),
    };
    format!(
        "{}: {} {}{target}; {better}",
        figure.name,
        shown(figure.value),
        figure.unit
    )
}
