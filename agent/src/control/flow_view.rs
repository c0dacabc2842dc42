//! `flows`: records as they come, in columns or as JSON.

use std::io::{self, Write as _};

use super::client;
use super::flows::Asked;
use super::view::ViewError;
use crate::config::arguments::{Output, View};
use crate::flows::record::{Following, HEADER, Line};

/// Shows what is asked for, until it ends or nobody reads.
///
/// # Errors
/// [`ViewError`] where there is nothing to show.
pub(super) fn show(asked: &Asked, View { socket, output }: &View) -> Result<(), ViewError> {
    let json = serde_json::to_string(asked).map_err(io::Error::from)?;
    let path = format!("/v1/flows?ask={}", client::encoded(&json));
    let mut out = anstream::stdout();
    let mut columns = Columns::default();
    let mut lines = Vec::new();
    let mut print = |text: &str| -> Result<(), ViewError> {
        out.write_all(text.as_bytes())?;
        Ok(out.flush()?)
    };
    if *output == Output::Table && asked.follow {
        print(&columns.line(&HEADER.map(str::to_owned)))?;
    }
    let shown = client::ask_lines(socket, &path, asked.follow, |text| {
        if *output == Output::Json {
            return print(&format!("{text}\n"));
        }
        let line: Line = serde_json::from_str(text).map_err(client::AskError::from)?;
        if let Line::Following(Following { following }) = line {
            anstream::eprintln!("fairlead-agent: following since {following}");
            return Ok(());
        }
        if asked.follow {
            return print(&columns.shown(&line));
        }
        lines.push(line);
        Ok(())
    });
    let shown = shown.and_then(|()| {
        if asked.follow {
            return Err(client::AskError::Ended(socket.clone()).into());
        }
        match output {
            Output::Json => Ok(()),
            Output::Table => print(&table(&lines)),
        }
    });
    match shown {
        // The reader, `head` say, has seen enough.
        Err(ViewError::Print(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// All of them, in columns as wide as the longest cell.
pub(crate) fn table(lines: &[Line]) -> String {
    let mut columns = Columns::default();
    let mut text = String::new();
    // Twice: the first time finds the widths.
    for _ in 0..2 {
        text = columns.line(&HEADER.map(str::to_owned));
        text.extend(lines.iter().map(|line| columns.shown(line)));
    }
    text
}

/// Columns that get wider when a longer cell comes.
#[derive(Debug)]
struct Columns([usize; 6]);

impl Default for Columns {
    fn default() -> Self {
        // A time, a verdict; what most lines of a stream have.
        Self([24, 8, 12, 0, 0, 0])
    }
}

impl Columns {
    fn shown(&mut self, line: &Line) -> String {
        match line {
            Line::Flow(flow) => self.line(&flow.cells()),
            Line::Lost(lost) => format!(
                "{} flows are missing here: they came faster than they were read\n",
                lost.lost
            ),
            // Beside the table.
            Line::Following(_) => String::new(),
        }
    }

    fn line(&mut self, cells: &[String; 6]) -> String {
        let mut text = String::new();
        for (cell, width) in cells.iter().zip(&mut self.0) {
            *width = (*width).max(cell.chars().count());
            text += &format!("{cell:<width$}  ", width = *width);
        }
        text.truncate(text.trim_end().len());
        text + "\n"
    }
}
