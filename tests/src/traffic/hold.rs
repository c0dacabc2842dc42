//! Long connections of TCP, or associations of SCTP: a line is sent and its answer checked again and again. A connection that
//! breaks is counted and not opened again.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use super::pace::Pace;
use super::{Client, Report, report, sctp};

pub(super) fn keep(options: &Client, pace: &Pace) -> Report {
    let mut report = Report::default();
    let begun = Instant::now();
    let mut stream = match open(options) {
        Ok(stream) => stream,
        Err(error) => {
            report.attempts += 1;
            report.error(
                format!("connect: {}", report::word(&error)),
                begun.elapsed(),
            );
            return report;
        }
    };
    let mut begun = Instant::now();
    let mut first: Option<(String, String)> = None;
    while pace.next(begun, report.attempts) {
        begun = Instant::now();
        let line = format!("{}\n", report.attempts);
        report.attempts += 1;
        match ask(&mut stream, &line).and_then(|answer| answer_of(&answer, &line)) {
            // One connection stays with one backend and one address.
            Ok(answer) if first.as_ref().is_none_or(|first| *first == answer) => {
                report.answer(&answer.0, &answer.1, begun.elapsed());
                if first.is_none() {
                    first = Some(answer);
                    pace.flows();
                }
            }
            Ok((backend, _)) => {
                report.error(format!("answered by {backend}"), begun.elapsed());
                report.lost_connections += 1;
                break;
            }
            Err(error) => {
                report.error(report::word(&error), begun.elapsed());
                report.lost_connections += 1;
                break;
            }
        }
    }
    report
}

fn open(options: &Client) -> io::Result<TcpStream> {
    if options.sctp {
        return Ok(sctp::connect(options.to, options.timeout())?);
    }
    let stream = TcpStream::connect_timeout(&options.to, options.timeout())?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(options.timeout()))?;
    Ok(stream)
}

/// Sends a line and reads the answer's line.
pub(super) fn ask(stream: &mut TcpStream, line: &str) -> io::Result<String> {
    stream.write_all(line.as_bytes())?;
    let mut answer = Vec::with_capacity(128);
    let mut buffer = [0; 256];
    while answer.last() != Some(&b'\n') {
        let length = stream.read(&mut buffer)?;
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        answer.extend_from_slice(&buffer[..length]);
    }
    String::from_utf8(answer).map_err(|_| io::ErrorKind::InvalidData.into())
}

/// Splits `NAME PEER-ADDRESS ECHO` and checks the echo.
pub(super) fn answer_of(answer: &str, sent: &str) -> io::Result<(String, String)> {
    let mut parts = answer.splitn(3, ' ');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(backend), Some(seen_as), Some(echo)) if echo == sent => {
            Ok((backend.to_owned(), seen_as.to_owned()))
        }
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}
