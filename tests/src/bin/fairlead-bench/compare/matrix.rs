//! A table of numbers for reading.

use std::fmt;

/// Wide enough for `12345.6 (×12.34)`.
const COLUMN: usize = 18;

/// A value, and how it compares with that of the first engine.
pub(super) struct Cell {
    pub(super) value: f64,
    pub(super) ratio: Option<f64>,
}

/// Rows of cells under a title.
pub(super) struct Matrix {
    title: String,
    header: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Matrix {
    pub(super) fn new(title: String, first: &str, columns: &[impl fmt::Display]) -> Self {
        let mut header = vec![first.to_owned()];
        header.extend(columns.iter().map(ToString::to_string));
        Self {
            title,
            header,
            rows: Vec::new(),
        }
    }

    pub(super) fn row(&mut self, name: u32, cells: impl Iterator<Item = Cell>) {
        let mut row = vec![name.to_string()];
        row.extend(cells.map(|cell| cell.to_string()));
        self.rows.push(row);
    }
}

impl fmt::Display for Matrix {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "{}", self.title)?;
        for row in [&self.header].into_iter().chain(&self.rows) {
            for (index, cell) in row.iter().enumerate() {
                let width = if index == 0 { COLUMN / 2 } else { COLUMN };
                write!(formatter, "{cell:>width$}")?;
            }
            writeln!(formatter)?;
        }
        writeln!(formatter)
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.value.is_nan() {
            return formatter.write_str("-");
        }
        let decimals = match self.value {
            value if value >= 1000.0 => 0,
            value if value >= 10.0 => 1,
            _ => 2,
        };
        write!(formatter, "{:.decimals$}", self.value)?;
        self.ratio
            .map_or(Ok(()), |ratio| write!(formatter, " (×{ratio:.2})"))
    }
}

#[cfg(test)]
mod tests {
    use super::{Cell, Matrix};

    #[test]
    fn values_stand_below_their_engines() {
        let mut matrix = Matrix::new(
            "connect, µs".to_owned(),
            "Services",
            &["direct", "fairlead"],
        );
        let cells = [(41.26, None), (43.0, Some(1.042))];
        let cells = cells.into_iter();
        matrix.row(50, cells.map(|(value, ratio)| Cell { value, ratio }));
        let expected = "connect, µs
 Services            direct          fairlead
       50              41.3      43.0 (×1.04)

";
        assert_eq!(matrix.to_string(), expected);
    }
}
