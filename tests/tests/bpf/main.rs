//! The programs, run packet by packet through `BPF_PROG_TEST_RUN`.
//!
//! Each test has its own network namespace, its own bpffs and its own maps; a packet goes in as
//! text, and the verdict and packet that come out are compared as text, checksums verified.

#[cfg(test)]
mod attachments;
#[cfg(test)]
mod budget;
#[cfg(test)]
mod checksums;
#[cfg(test)]
mod choice;
#[cfg(test)]
mod connections;
#[cfg(test)]
mod debug;
#[cfg(test)]
mod edge;
#[cfg(test)]
mod egress;
#[cfg(test)]
mod errors;
#[cfg(test)]
mod fast_path;
#[cfg(test)]
mod flows;
#[cfg(test)]
mod fragments;
#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod headerless;
#[cfg(test)]
mod lab;
#[cfg(test)]
mod malformed;
#[cfg(test)]
mod offloads;
#[cfg(test)]
mod overlay;
#[cfg(test)]
mod packet;
#[cfg(test)]
mod pieces;
#[cfg(test)]
mod policy;
#[cfg(test)]
mod pressure;
#[cfg(test)]
mod qdisc;
#[cfg(test)]
mod rejection;
#[cfg(test)]
mod routes;
#[cfg(test)]
mod sctp;
#[cfg(test)]
mod segments;
#[cfg(test)]
mod source_address;
#[cfg(test)]
mod told;
#[cfg(test)]
mod tunnel;

#[cfg(test)]
use tests::packets as wire;
