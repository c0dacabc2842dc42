//! As much of HTTP as a proxy between client and server needs.

use std::io::{self, BufRead, Read, Write};
use std::net::TcpStream;

/// What clients ask; servers behind a proxy see the same line.
const REQUEST: &str = "GET / HTTP/1.1\r\n";

/// Asks for a host: the backend that answered, and the address as which it saw its client.
pub(super) fn get(stream: &mut TcpStream, host: &str) -> io::Result<(String, String)> {
    stream.write_all(format!("{REQUEST}Host: {host}\r\nConnection: close\r\n\r\n").as_bytes())?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    answer_of(&text)
}

/// Splits an answer; one that is not 200 is an error that has its status.
fn answer_of(text: &str) -> io::Result<(String, String)> {
    // A connection that ends before the answer is lost, whoever ended it.
    let (head, body) = text
        .split_once("\r\n\r\n")
        .ok_or(io::ErrorKind::UnexpectedEof)?;
    let status = head.split(' ').nth(1).unwrap_or_default();
    if status != "200" {
        return Err(io::Error::other(format!("status {status}")));
    }
    let mut words = body.split(' ');
    match (words.next(), words.next(), words.next()) {
        (Some(backend), Some(seen_as), Some(_)) => Ok((backend.to_owned(), seen_as.to_owned())),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// Whether the first line of a connection is a request.
pub(super) fn is_request(line: &str) -> bool {
    line.trim_end().ends_with(" HTTP/1.1")
}

/// Reads to the empty line after the header fields.
pub(super) fn skip_head(reader: &mut impl BufRead) -> io::Result<()> {
    let mut line = String::new();
    while reader.read_line(&mut line)? > 0 && !line.trim_end().is_empty() {
        line.clear();
    }
    Ok(())
}

/// An answer that leaves the connection open.
pub(super) fn answer(body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_names_backend_and_client() {
        let answer = answer("web-1 172.31.0.81 GET / HTTP/1.1\r\n");
        let (backend, seen_as) = answer_of(&answer).unwrap();
        assert_eq!((&*backend, &*seen_as), ("web-1", "172.31.0.81"));
    }

    #[test]
    fn what_is_no_answer_is_an_error() {
        for (text, expected) in [
            ("", "unexpected end of file"),
            ("HTTP/1.1 200 OK\r\n", "unexpected end of file"),
            ("HTTP/1.1 503 Service Unavailable\r\n\r\n", "status 503"),
            ("HTTP/1.1 200 OK\r\n\r\nhello", "invalid data"),
        ] {
            assert_eq!(answer_of(text).unwrap_err().to_string(), expected);
        }
    }
}
