//! Lines of the runtime socket: words, payloads, and what a good answer is.

/// A word that the socket's grammar cannot carry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot be said at the runtime socket: {0}")]
pub struct Unsafe(pub(super) &'static str);

/// One line to send, its payload included, and how a good answer to it is known.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) text: Vec<u8>,
    pub(super) expects: Expects,
}

impl Line {
    pub(super) fn shown(&self) -> Vec<String> {
        let text = String::from_utf8_lossy(&self.text);
        text.lines()
            .filter(|line| !line.is_empty())
            .map(str::to_owned)
            .collect()
    }
}

/// A good answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expects {
    Silence,
    /// One of these is in it.
    Any(&'static [&'static str]),
}

impl Expects {
    pub(super) fn is_met(self, answer: &str) -> bool {
        match self {
            Self::Silence => answer.trim().is_empty(),
            Self::Any(texts) => texts.iter().any(|text| answer.contains(text)),
        }
    }
}

/// A line of words. `;` would begin another command, and a blank another word.
pub(super) fn line(words: &[&str], expects: Expects) -> Result<Line, Unsafe> {
    let mut text = String::new();
    for (index, word) in words.iter().enumerate() {
        if index > 0 {
            text.push(' ');
        }
        push_word(&mut text, word)?;
    }
    text.push('\n');
    Ok(Line {
        text: text.into_bytes(),
        expects,
    })
}

fn push_word(text: &mut String, word: &str) -> Result<(), Unsafe> {
    if word.is_empty() {
        return Err(Unsafe("an empty word"));
    }
    if word == "<<" {
        return Err(Unsafe("the word <<, which begins a payload"));
    }
    for c in word.chars() {
        match c {
            ' ' | ';' | '\\' => {
                text.push('\\');
                text.push(c);
            }
            '\t' => return Err(Unsafe("a tab")),
            c if c.is_control() => return Err(Unsafe("a control character")),
            c => text.push(c),
        }
    }
    Ok(())
}

/// A line of words and a payload, which ends at the first empty line.
pub(super) fn with_payload(
    words: &[&str],
    payload: &[u8],
    expects: Expects,
) -> Result<Line, Unsafe> {
    let mut line = line(words, expects)?;
    line.text.pop();
    line.text.extend_from_slice(b" <<\n");
    for row in payload.split(|byte| *byte == b'\n') {
        let row = row.strip_suffix(b"\r").unwrap_or(row);
        if row.iter().any(|byte| matches!(byte, 0 | b'\r')) {
            return Err(Unsafe("a control character"));
        }
        // An empty row, as between two certificates, would end the payload.
        if !row.iter().all(u8::is_ascii_whitespace) {
            line.text.extend_from_slice(row);
            line.text.push(b'\n');
        }
    }
    line.text.push(b'\n');
    Ok(line)
}
