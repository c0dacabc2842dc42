//! Short TCP connections: connect, one line or one HTTP request, close.

use std::io;
use std::net::TcpStream;

use super::hold::{answer_of, ask};
use super::pace::Pace;
use super::{Client, Report, http};

pub(super) fn exchange(options: &Client, pace: &Pace) -> Report {
    pace.one_by_one(options, |_, _| one(options))
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
