//! A pod that speaks HTTP/2 without TLS, as gRPC's servers do: it sends back what it is sent, with
//! a trailer. It reads no header field, so it needs no table of them (RFC 9113, RFC 7541).

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread;

use crate::node::Node;
use crate::pods::PORT;

const PREFACE: usize = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".len();
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;

/// Starts the pod.
pub(crate) fn start(node: &Node, number: u8) {
    drop(node.inside(move || {
        let at = (Ipv4Addr::new(10, 0, 0, number), PORT);
        for stream in TcpListener::bind(at).unwrap().incoming().flatten() {
            // A client that is gone is the end of its connection and nothing else.
            thread::spawn(move || converse(stream));
        }
    }));
}

fn converse(mut stream: TcpStream) -> io::Result<()> {
    stream.read_exact(&mut [0; PREFACE])?;
    write_frame(&mut stream, SETTINGS, 0, [0; 4], &[])?;
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head)?;
        let [high, middle, low, kind, flags, id @ ..] = head;
        let length = u32::from_be_bytes([0, high, middle, low]);
        let mut payload = vec![0; usize::try_from(length).map_err(io::Error::other)?];
        stream.read_exact(&mut payload)?;
        match kind {
            SETTINGS if flags & ACK == 0 => write_frame(&mut stream, SETTINGS, ACK, [0; 4], &[])?,
            PING if flags & ACK == 0 => write_frame(&mut stream, PING, ACK, [0; 4], &payload)?,
            // Status 200 is an entry of the static table.
            HEADERS => write_frame(&mut stream, HEADERS, END_HEADERS, id, &[0x88])?,
            DATA => {
                assert_eq!(flags & PADDED, 0, "padding is not read here");
                write_frame(&mut stream, DATA, 0, id, &payload)?;
            }
            _ => {}
        }
        if matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0 {
            let trailer = literal("grpc-status", "0");
            write_frame(&mut stream, HEADERS, END_HEADERS | END_STREAM, id, &trailer)?;
        }
    }
}

fn write_frame(
    stream: &mut TcpStream,
    kind: u8,
    flags: u8,
    id: [u8; 4],
    payload: &[u8],
) -> io::Result<()> {
    let length = u32::try_from(payload.len()).map_err(io::Error::other)?;
    let [_, high, middle, low] = length.to_be_bytes();
    let head = [high, middle, low, kind, flags, id[0], id[1], id[2], id[3]];
    stream.write_all(&[&head, payload].concat())
}

/// A field that no table has (RFC 7541 §6.2.2); names and values here are short.
fn literal(name: &str, value: &str) -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    [vec![0], text(name), text(value)].concat()
}
