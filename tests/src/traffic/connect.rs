//! Short TCP connections: connect, one line or one HTTP request, close.

use std::io;
use std::net::TcpStream;
use std::time::Instant;

use super::hold::{answer_of, ask};
use super::pace::Pace;
use super::{Client, Report, http, report};

pub(super) fn exchange(options: &Client, pace: &Pace) -> Report {
    let mut report = Report::default();
    let mut flows = false;
    let mut begun = Instant::now();
    while pace.next(begun, report.attempts) {
        begun = Instant::now();
        report.attempts += 1;
        match one(options) {
            Ok((backend, seen_as)) => {
                report.answer(&backend, &seen_as, begun.elapsed());
                if !flows {
                    flows = true;
                    pace.flows();
                }
            }
            Err(error) => {
                report.error(report::word(&error), begun.elapsed());
                if options.stop_on_error {
                    break;
                }
            }
        }
    }
    report
}

fn one(options: &Client) -> io::Result<(String, String)> {
    let mut stream = TcpStream::connect_timeout(&options.to, options.timeout())?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(options.timeout()))?;
    if let Some(host) = &options.host {
        return http::get(&mut stream, host);
    }
    let answer = ask(&mut stream, "who\n")?;
    answer_of(&answer, "who\n")
}
