//! What a rule, a host or a port leads to: one section, or several by weight.

use super::{Lowering, Mode};
use crate::edge::value::Id;
use crate::edge::{Backend, BackendProtocol, Forward, Unknown};
use crate::haproxy::view::{Processing, Section, Split, SplitPart};

/// Closes the connection without an answer.
const CLOSE: &str = "fairlead_close";

impl<'a> Lowering<'a> {
    /// The name of what a forward leads to: a section, or a split of [`Self::splits`].
    pub(super) fn forward(
        &mut self,
        forward: &'a Forward,
        mode: Mode,
        processing: &Processing,
    ) -> String {
        let mut parts = Vec::new();
        let mut total = 0;
        for (backend, weight) in &forward.to {
            if *weight == 0 {
                continue;
            }
            let section = match self.plan.backends.get(backend) {
                Some(known) => {
                    let used = self.used.entry((&known.id, mode)).or_default();
                    used.push(processing.clone());
                    section_name(known, mode)
                }
                None => self.nothing(mode),
            };
            total += u64::from(*weight);
            parts.push(SplitPart {
                section,
                below: total,
            });
        }
        match parts.as_slice() {
            [] => self.nothing(mode),
            [only] => only.section.clone(),
            _ => {
                let words: Vec<String> = parts
                    .iter()
                    .map(|part| format!("{} {}", part.section, part.below))
                    .collect();
                let name = Id::of(&["split", &words.join(" ")]).to_string();
                let split = Split {
                    name: name.clone(),
                    total,
                    parts,
                };
                self.splits.insert(name.clone(), split);
                name
            }
        }
    }

    /// What answers where a forward names nobody (500 of Gateway API).
    fn nothing(&mut self, mode: Mode) -> String {
        match mode {
            Mode::Http => self.status(500),
            Mode::Tcp => {
                // A section without servers refuses connections.
                let name = "fairlead_nobody".to_owned();
                self.answers.entry(name.clone()).or_insert_with(|| Section {
                    is_tcp: true,
                    rules: Vec::new(),
                    ..Section::answering(&name, Processing::default())
                });
                name
            }
        }
    }

    /// A section that answers with a status.
    pub(super) fn status(&mut self, status: u16) -> String {
        // HAProxy's `return` takes 200 to 599.
        let status = if (200..600).contains(&status) {
            status
        } else {
            500
        };
        let name = format!("fairlead_status_{status}");
        let processing = Processing {
            respond: Some(status),
            ..Processing::default()
        };
        self.answers
            .entry(name.clone())
            .or_insert_with(|| Section::answering(&name, processing));
        name
    }

    /// The name of what requests get that nothing takes.
    pub(super) fn unknown(&mut self, unknown: &'a Unknown) -> String {
        match unknown {
            Unknown::Close => {
                let processing = Processing {
                    closes: true,
                    ..Processing::default()
                };
                self.answers
                    .entry(CLOSE.to_owned())
                    .or_insert_with(|| Section::answering(CLOSE, processing));
                CLOSE.to_owned()
            }
            Unknown::Status(status) => self.status(*status),
            Unknown::Forward(forward) => self.forward(forward, Mode::Http, &Processing::default()),
        }
    }
}

/// A backend's section. Its own name where it is used as its servers speak.
pub(super) fn section_name(backend: &Backend, mode: Mode) -> String {
    let is_tcp = backend.protocol == BackendProtocol::Tcp;
    match (mode, is_tcp) {
        (Mode::Http, false) | (Mode::Tcp, true) => backend.id.to_string(),
        (Mode::Http, true) => format!("{}__http", backend.id),
        (Mode::Tcp, false) => format!("{}__tcp", backend.id),
    }
}
