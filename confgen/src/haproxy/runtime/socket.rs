//! The client of HAProxy's runtime socket.
//!
//! Many commands go over one connection without waiting for each answer: HAProxy 2.6 takes 400 of
//! them in some milliseconds, and half a second over as many connections. In interactive mode every
//! answer ends with a prompt, so that answers are told apart whatever is in them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use super::command::{Command, entries_line};
use super::line::{Expects, Line, Unsafe, line};

/// `tune.bufsize` less `tune.maxrewrite`, as Debian and upstream have them: a command and its
/// payload must fit.
const MAX_LINE_BYTES: usize = 16_384 - 1_024;

/// Commands in flight at most. More would only lie in the socket's buffers.
const BATCH: usize = 500;

/// Ends every answer in interactive mode.
const PROMPT: &[u8] = b"\n> ";

/// Where HAProxy, or its master, takes commands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Socket {
    path: PathBuf,
    timeout: Duration,
}

/// HAProxy was reached, and did not do what it was told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{command}: {answer}")]
pub struct Refusal {
    /// The command's first words; what follows may be a key.
    pub command: String,
    /// What HAProxy said.
    pub answer: String,
}

/// Commands could not be executed.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Nobody answers there.
    #[error("HAProxy's socket {path}: {source}", path = path.display())]
    Io {
        /// Which.
        path: PathBuf,
        source: std::io::Error,
    },
    /// It did not answer in time.
    #[error("HAProxy's socket {path}: no answer within {timeout:?}", path = path.display())]
    TimedOut {
        /// Which.
        path: PathBuf,
        /// How long it had.
        timeout: Duration,
    },
    /// A command cannot be sent.
    #[error(transparent)]
    Unsafe(#[from] Unsafe),
    /// A command was refused; those before it are done, and those behind it in its batch too.
    #[error("HAProxy refuses {0}")]
    Refused(Refusal),
}

impl Socket {
    /// A socket by its path.
    pub fn new(path: &Path, timeout: Duration) -> Self {
        Self {
            path: path.to_owned(),
            timeout,
        }
    }

    /// Asks one thing, such as `show info`, and returns the answer.
    ///
    /// # Errors
    /// [`SocketError`] where nobody answers.
    pub async fn ask(&self, words: &[&str]) -> Result<String, SocketError> {
        let line = line(words, Expects::Silence)?;
        let answers = self.bounded(async {
            let mut conversation = self.connect().await?;
            self.io(conversation.say(std::slice::from_ref(&line)).await)
        });
        Ok(answers.await?.into_iter().next().unwrap_or_default())
    }

    /// Asks one thing over a connection of its own. The master's socket has another prompt.
    pub(crate) async fn ask_once(&self, command: &str) -> Result<String, SocketError> {
        self.bounded(async {
            let mut stream = self.io(UnixStream::connect(&self.path).await)?;
            let text = format!("{command};quit\n");
            self.io(stream.write_all(text.as_bytes()).await)?;
            let mut answer = String::new();
            self.io(stream.read_to_string(&mut answer).await)?;
            Ok(answer)
        })
        .await
    }

    /// Says one thing and waits for the end of the connection, however it comes.
    pub(crate) async fn tell(&self, command: &str) -> Result<(), SocketError> {
        self.bounded(async {
            let mut stream = self.io(UnixStream::connect(&self.path).await)?;
            let text = format!("{command}\n");
            self.io(stream.write_all(text.as_bytes()).await)?;
            let mut rest = Vec::new();
            // The master runs itself anew; whether it took is read back.
            let _end = stream.read_to_end(&mut rest).await;
            Ok(())
        })
        .await
    }

    /// Whether file descriptors of listeners are sent to who asks. Those sent are closed by the
    /// kernel, as nobody takes them out of the message.
    pub(crate) async fn hands_over_listeners(&self) -> Result<bool, SocketError> {
        self.bounded(async {
            let mut stream = self.io(UnixStream::connect(&self.path).await)?;
            self.io(stream.write_all(b"_getsocks\n").await)?;
            let mut buffer = [0; 64];
            let count = self.io(stream.read(&mut buffer).await)?;
            let text =
                String::from_utf8_lossy(buffer.get(..count).unwrap_or_default()).into_owned();
            // A socket that does not hand over closes, or says that it knows no such command.
            Ok(count > 0 && !text.contains("command"))
        })
        .await
    }

    /// Executes commands in order. A refused [`Command::is_cleanup`] is told and no error.
    ///
    /// # Errors
    /// [`SocketError`]; what is live then is between the old and the new, and a reload is needed.
    pub async fn execute(&self, commands: &[Command]) -> Result<Vec<Refusal>, SocketError> {
        if commands.is_empty() {
            return Ok(Vec::new());
        }
        self.bounded(self.execute_all(commands)).await
    }

    async fn execute_all(&self, commands: &[Command]) -> Result<Vec<Refusal>, SocketError> {
        let mut conversation = self.connect().await?;
        let mut refusals = Vec::new();
        let mut batch: Vec<(Line, bool)> = Vec::new();
        for command in commands {
            if let Command::ReplaceMap { map, entries } = command {
                self.flush(&mut conversation, &mut batch, &mut refusals)
                    .await?;
                self.replace(&mut conversation, map, entries).await?;
            }
            let is_cleanup = command.is_cleanup();
            batch.extend(command.lines()?.into_iter().map(|line| (line, is_cleanup)));
            if batch.len() >= BATCH {
                self.flush(&mut conversation, &mut batch, &mut refusals)
                    .await?;
            }
        }
        self.flush(&mut conversation, &mut batch, &mut refusals)
            .await?;
        Ok(refusals)
    }

    async fn flush(
        &self,
        conversation: &mut Conversation,
        batch: &mut Vec<(Line, bool)>,
        refusals: &mut Vec<Refusal>,
    ) -> Result<(), SocketError> {
        let (lines, cleanups): (Vec<Line>, Vec<bool>) = batch.drain(..).unzip();
        let answers = self.io(conversation.say(&lines).await)?;
        for ((line, is_cleanup), answer) in lines.iter().zip(cleanups).zip(&answers) {
            match line.judge(answer) {
                Ok(()) => {}
                Err(refusal) if is_cleanup => refusals.push(refusal),
                Err(refusal) => return Err(SocketError::Refused(refusal)),
            }
        }
        Ok(())
    }

    /// Fills a version of a map that nobody sees, and makes it the visible one.
    async fn replace(
        &self,
        conversation: &mut Conversation,
        map: &str,
        entries: &[(String, String)],
    ) -> Result<(), SocketError> {
        const CREATED: &str = "New version created:";
        let prepare = line(&["prepare", "map", map], Expects::Any(&[CREATED]))?;
        let answers = self.io(conversation.say(std::slice::from_ref(&prepare)).await)?;
        let answer = answers.first().map_or("", String::as_str);
        prepare.judge(answer).map_err(SocketError::Refused)?;
        let version = answer
            .split_once(CREATED)
            .map_or("", |(_, version)| version.trim());
        let mut lines = chunks(entries)
            .map(|chunk| entries_line(Some(version), map, chunk))
            .collect::<Result<Vec<_>, _>>()?;
        let at = format!("@{version}");
        lines.push(line(&["commit", "map", &at, map], Expects::Silence)?);
        let answers = self.io(conversation.say(&lines).await)?;
        for (line, answer) in lines.iter().zip(&answers) {
            line.judge(answer).map_err(SocketError::Refused)?;
        }
        Ok(())
    }

    async fn connect(&self) -> Result<Conversation, SocketError> {
        let stream = self.io(UnixStream::connect(&self.path).await)?;
        let mut conversation = Conversation {
            stream,
            received: Vec::new(),
        };
        let prompt = line(&["prompt"], Expects::Silence)?;
        self.io(conversation.say(&[prompt]).await)?;
        Ok(conversation)
    }

    async fn bounded<T>(
        &self,
        work: impl Future<Output = Result<T, SocketError>>,
    ) -> Result<T, SocketError> {
        tokio::time::timeout(self.timeout, work)
            .await
            .unwrap_or_else(|_elapsed| {
                Err(SocketError::TimedOut {
                    path: self.path.clone(),
                    timeout: self.timeout,
                })
            })
    }

    fn io<T>(&self, result: std::io::Result<T>) -> Result<T, SocketError> {
        result.map_err(|source| SocketError::Io {
            path: self.path.clone(),
            source,
        })
    }
}

/// Entries in parts that fit.
fn chunks(entries: &[(String, String)]) -> impl Iterator<Item = &[(String, String)]> {
    let mut rest = entries;
    std::iter::from_fn(move || {
        let mut bytes = 256;
        let fitting = rest.iter().take_while(|(key, value)| {
            bytes += key.len() + value.len() + 2;
            bytes < MAX_LINE_BYTES
        });
        // One that fits nowhere is refused when it is sent.
        let count = fitting.count().max(1).min(rest.len());
        let (chunk, others) = rest.split_at(count);
        rest = others;
        (!chunk.is_empty()).then_some(chunk)
    })
}

impl Line {
    fn judge(&self, answer: &str) -> Result<(), Refusal> {
        if self.expects.is_met(answer) {
            return Ok(());
        }
        let first = self
            .text
            .split(|byte| *byte == b'\n')
            .next()
            .unwrap_or_default();
        let command = String::from_utf8_lossy(first);
        Err(Refusal {
            // Names and no values: two words say what, the third on what.
            command: command.split(' ').take(4).collect::<Vec<_>>().join(" "),
            answer: answer.trim().chars().take(200).collect(),
        })
    }
}

/// An interactive connection.
struct Conversation {
    stream: UnixStream,
    received: Vec<u8>,
}

impl Conversation {
    /// Sends lines and collects as many answers. Both at once: HAProxy stops reading while its
    /// answers are not read.
    async fn say(&mut self, lines: &[Line]) -> std::io::Result<Vec<String>> {
        if let Some(long) = lines.iter().find(|line| line.text.len() > MAX_LINE_BYTES) {
            let message = format!("a command of {} bytes exceeds its buffer", long.text.len());
            return Err(std::io::Error::new(
                std::io::ErrorKind::InvalidInput,
                message,
            ));
        }
        let text: Vec<u8> = lines
            .iter()
            .flat_map(|line| line.text.iter().copied())
            .collect();
        let (mut reader, mut writer) = self.stream.split();
        let received = &mut self.received;
        let read = async {
            let mut answers = Vec::new();
            let mut buffer = [0; 16_384];
            let mut searched = 0;
            while answers.len() < lines.len() {
                while let Some(answer) = take_answer(received, &mut searched) {
                    answers.push(answer);
                }
                if answers.len() >= lines.len() {
                    break;
                }
                match reader.read(&mut buffer).await? {
                    0 => return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof)),
                    count => received.extend(buffer.iter().take(count)),
                }
            }
            Ok(answers)
        };
        let (written, answers) = tokio::join!(writer.write_all(&text), read);
        // A refusal to go on shows at both ends; the reader's says more.
        let answers = answers?;
        written?;
        Ok(answers)
    }
}

/// Takes the first whole answer, without its prompt and those of a payload's lines (`+ `). In the first
/// `searched` bytes none ends: an answer about ten thousand servers comes in hundreds of parts.
fn take_answer(received: &mut Vec<u8>, searched: &mut usize) -> Option<String> {
    let from = searched.saturating_sub(PROMPT.len() - 1);
    let fresh = received.get(from..).unwrap_or_default();
    let found = fresh
        .windows(PROMPT.len())
        .position(|window| window == PROMPT);
    *searched = if found.is_some() { 0 } else { received.len() };
    let end = from + found?;
    let answer: Vec<u8> = received.drain(..end + PROMPT.len()).collect();
    let text = String::from_utf8_lossy(answer.get(..end).unwrap_or_default()).into_owned();
    let mut text = text.as_str();
    while let Some(rest) = text.strip_prefix("+ ") {
        text = rest;
    }
    Some(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::{MAX_LINE_BYTES, chunks, take_answer};

    #[test]
    fn answers_are_told_apart() {
        let mut received = b"\n> + + Success!\n\n> Server deleted.\n> 1\n# x".to_vec();
        let mut answers = Vec::new();
        while let Some(answer) = take_answer(&mut received, &mut 0) {
            answers.push(answer);
        }
        assert_eq!(answers, ["", "Success!\n", "Server deleted."]);
        assert_eq!(received, b"1\n# x");
    }

    #[test]
    fn an_answer_may_come_byte_by_byte() {
        let (mut received, mut searched, mut answers) = (Vec::new(), 0, Vec::new());
        for byte in b"\n> + + Success!\n\n> Server deleted.\n> 1\n# x" {
            received.push(*byte);
            answers.extend(take_answer(&mut received, &mut searched));
        }
        assert_eq!(answers, ["", "Success!\n", "Server deleted."]);
        assert_eq!((received.as_slice(), searched), (&b"1\n# x"[..], 5));
    }

    #[test]
    fn entries_are_sent_in_parts_that_fit() {
        let entries: Vec<_> = (0..3000)
            .map(|n| (format!("host{n}.example"), "b".to_owned()))
            .collect();
        let parts: Vec<_> = chunks(&entries).collect();
        assert!(parts.len() > 3);
        assert_eq!(parts.concat(), entries);
        for part in parts {
            let bytes: usize = part
                .iter()
                .map(|(key, value)| key.len() + value.len() + 2)
                .sum();
            assert!(bytes < MAX_LINE_BYTES);
        }
        assert_eq!(chunks(&[]).count(), 0);
    }
}
