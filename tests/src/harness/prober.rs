//! A process that tries many targets at once; see `traffic::probe`.

use std::io::{BufRead, BufReader, Write};
use std::process::{ChildStdin, ChildStdout, Stdio};

use anyhow::{Context, Result, ensure};

use super::Place;
use super::process::{Process, expect_line};
use crate::traffic::{Batch, Found, LISTENING};

/// A running prober. Dropped, it is ended.
#[derive(Debug)]
pub struct Prober {
    _process: Process,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    name: String,
}

impl Prober {
    /// Starts one.
    pub fn start(place: &Place) -> Result<Self> {
        let name = format!("prober in {}", place.name);
        let mut command = place.traffic();
        command
            .arg("probe")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut process = Process::start(&name, &mut command)?;
        let mut output = process.output()?;
        expect_line(&mut output, &name, LISTENING)?;
        Ok(Self {
            input: process.input()?,
            _process: process,
            output,
            name,
        })
    }

    /// Begins a batch, which runs while others do: see [`Self::found`].
    pub fn ask(&mut self, batch: &Batch) -> Result<()> {
        let mut line = serde_json::to_vec(batch)?;
        line.push(b'\n');
        self.input.write_all(&line).context(self.name.clone())
    }

    /// What came of each target of the batch that was begun.
    pub fn found(&mut self) -> Result<Vec<Found>> {
        let mut line = String::new();
        let length = self.output.read_line(&mut line)?;
        ensure!(length > 0, "{} has ended", self.name);
        let found = line.trim_end().chars().map(Found::of);
        found
            .collect::<Option<_>>()
            .with_context(|| format!("{}: {line}", self.name))
    }
}
