//! One measured value.

use serde::Serialize;

/// An entry of `target/bench/NAME.json`.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Figure {
    name: String,
    value: f64,
    unit: &'static str,
    target: Option<f64>,
    better: Better,
    met: bool,
    /// Shown in a matrix rather than in a row of its own.
    detail: bool,
    rounds: Vec<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Better {
    Less,
    More,
}

impl Figure {
    /// The median of the rounds, of which less is better; no target.
    pub(crate) fn less(name: impl Into<String>, unit: &'static str, rounds: Vec<f64>) -> Self {
        Self {
            name: name.into(),
            value: median(&rounds),
            unit,
            target: None,
            better: Better::Less,
            met: true,
            detail: false,
            rounds,
        }
    }

    /// The median of the rounds, of which more is better; no target.
    pub(crate) fn more(name: impl Into<String>, unit: &'static str, rounds: Vec<f64>) -> Self {
        Self {
            better: Better::More,
            ..Self::less(name, unit, rounds)
        }
    }

    /// The value is one of many that a matrix shows.
    pub(crate) fn detail(self) -> Self {
        Self {
            detail: true,
            ..self
        }
    }

    /// The value has to be at least `target`.
    pub(crate) fn at_least(self, target: f64) -> Self {
        Self {
            target: Some(target),
            met: self.value >= target,
            ..self
        }
    }

    /// The value has to be at most `target`.
    pub(crate) fn at_most(self, target: f64) -> Self {
        Self {
            target: Some(target),
            met: self.value <= target,
            ..self
        }
    }
}

/// The figures of a bench, shown as they come; the table is for whoever reads the file.
#[derive(Debug, Default, Serialize)]
#[serde(transparent)]
pub(crate) struct Figures(Vec<Figure>);

impl Figures {
    pub(crate) fn push(&mut self, figure: Figure) {
        let Figure {
            name,
            value,
            unit,
            target,
            better,
            met,
            detail,
            ..
        } = &figure;
        let verdict = if *met { "met" } else { "MISSED" };
        let bound = match better {
            Better::Less => "at most",
            Better::More => "at least",
        };
        let target = target.map_or_else(String::new, |target| {
            format!(" ({bound} {target}: {verdict})")
        });
        if !detail {
            anstream::eprintln!("  {name}: {value:.3} {unit}{target}");
        }
        self.0.push(figure);
    }

    pub(crate) fn are_met(&self) -> bool {
        self.0.iter().all(|figure| figure.met)
    }
}

pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match (
        sorted.len() % 2,
        sorted.get(middle),
        middle.checked_sub(1).and_then(|below| sorted.get(below)),
    ) {
        (0, Some(above), Some(below)) => f64::midpoint(*below, *above),
        (_, Some(value), _) => *value,
        _ => f64::NAN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_or_the_mean_of_the_two_in_the_middle() {
        for (values, expected) in [
            (&[3.0, 1.0, 2.0][..], 2.0),
            (&[4.0, 1.0, 2.0, 3.0], 2.5),
            (&[7.0], 7.0),
        ] {
            assert!(
                (median(values) - expected).abs() < f64::EPSILON,
                "{values:?}"
            );
        }
        assert!(median(&[]).is_nan());
    }
}
