//! `cargo xtask bench NAME`: sets up, builds optimised, measures with `fairlead-bench`, and shows
//! target/bench/NAME.json as a table and a plot.

mod plot;

use std::ffi::OsString;
use std::fs;
use std::process::ExitCode;

use anyhow::{Context, Result};
use comfy_table::{CellAlignment, Table, presets};
use serde::Deserialize;

use crate::build::{self, Profile};
use crate::{place, run, setup};

/// An entry of target/bench/NAME.json.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Figure {
    name: String,
    value: f64,
    unit: String,
    target: Option<f64>,
    better: Better,
    met: bool,
    /// One of many that fairlead-bench shows in a matrix.
    #[serde(default)]
    detail: bool,
    rounds: Vec<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Better {
    Less,
    More,
}

/// Measures; the exit code of fairlead-bench, which says whether every target is met, is ours.
pub(crate) fn bench(name: &str, arguments: &[OsString]) -> Result<ExitCode> {
    setup::setup()?;
    build::build(Profile::Release)?;
    let figures = place::target().join("bench").join(format!("{name}.json"));
    // Figures of an earlier run must not be taken for those of a run that wrote none.
    if figures.exists() {
        fs::remove_file(&figures)
            .with_context(|| format!("{}: cannot be removed", figures.display()))?;
    }
    let mut command = run::command(place::dist().join("fairlead-bench"));
    let status = run::status(command.arg(name).args(arguments))?;
    if !figures.exists() {
        anstream::eprintln!("{}: {status}, no figures", run::shown(&command));
        return Ok(match status.success() {
            true => ExitCode::FAILURE,
            false => run::exit_code(status),
        });
    }
    let text = fs::read_to_string(&figures)
        .with_context(|| format!("{}: cannot be read", figures.display()))?;
    let mut list: Vec<Figure> = serde_json::from_str(&text)
        .with_context(|| format!("{}: not a list of figures", figures.display()))?;
    list.retain(|figure| !figure.detail);
    anstream::println!("{}", table(&list));
    let drawing = figures.with_extension("svg");
    plot::draw(&drawing, name, &list)?;
    anstream::println!("drawn in target/bench/{name}.svg");
    Ok(run::exit_code(status))
}

fn table(figures: &[Figure]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN).set_header([
        "figure", "value", "unit", "target", "met", "lowest", "highest", "rounds",
    ]);
    for figure in figures {
        let lowest = figure.rounds.iter().copied().reduce(f64::min);
        let highest = figure.rounds.iter().copied().reduce(f64::max);
        table.add_row([
            figure.name.clone(),
            shown(figure.value),
            figure.unit.clone(),
            figure.target_text(),
            if figure.met { "yes" } else { "NO" }.to_owned(),
            lowest.map(shown).unwrap_or_default(),
            highest.map(shown).unwrap_or_default(),
            figure.rounds.len().to_string(),
        ]);
    }
    for index in [1, 5, 6, 7] {
        if let Some(column) = table.column_mut(index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// Three significant digits at least.
fn shown(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}

impl Figure {
    fn target_text(&self) -> String {
        let sign = match self.better {
            Better::Less => "≤",
            Better::More => "≥",
        };
        self.target
            .map(|target| format!("{sign} {}", shown(target)))
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::{Figure, plot, table};
    use crate::place;

    const FIGURES: &str = r#"[
        {"name": "connect", "value": 1.25, "unit": "x direct", "target": 1.5, "better": "less", "met": true, "rounds": [1.2, 1.25, 1.4]},
        {"name": "start <10,000>", "value": 812.0, "unit": "ms", "target": null, "better": "less", "met": true, "rounds": []},
        {"name": "exchanges", "value": 0.5, "unit": "x direct", "target": 0.9, "better": "more", "met": false, "rounds": [0.5]}
    ]"#;

    fn figures() -> Vec<Figure> {
        serde_json::from_str(FIGURES).unwrap()
    }

    #[test]
    fn a_figure_is_a_row_with_its_target_and_spread() {
        let shown = table(&figures()).to_string();
        let rows: Vec<Vec<&str>> = shown
            .lines()
            .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
            .collect();
        assert_eq!(
            rows[2],
            [
                "connect", "1.25", "x direct", "≤ 1.50", "yes", "1.20", "1.40", "3"
            ]
        );
        assert_eq!(
            rows[3],
            ["start <10,000>", "812", "ms", "", "yes", "", "", "0"]
        );
        assert_eq!(
            rows[4],
            [
                "exchanges",
                "0.5000",
                "x direct",
                "≥ 0.9000",
                "NO",
                "0.5000",
                "0.5000",
                "1"
            ]
        );
    }

    #[test]
    fn figures_of_any_size_can_be_drawn() {
        let path = place::target().join(format!("tmp/xtask-plot-{}.svg", std::process::id()));
        std::fs::create_dir_all(place::target().join("tmp")).unwrap();
        for list in [figures(), figures()[1..2].to_vec(), Vec::new()] {
            plot::draw(&path, "services", &list).unwrap();
            let drawing = std::fs::read_to_string(&path).unwrap();
            assert!(drawing.trim_end().ends_with("</svg>"));
            for figure in &list {
                let unit = &figure.unit;
                assert!(drawing.contains(unit), "{unit} in {drawing}");
            }
        }
        std::fs::remove_file(&path).unwrap();
    }
}
