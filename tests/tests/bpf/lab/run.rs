//! One packet through one program.

use aya::programs::{TestRun as _, TestRunOptions};

use super::Lab;
use crate::packet::{describe, frame};

/// Where a packet is put in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum At {
    Uplink,
    Pod,
    /// The second pod, whose interface is `other`.
    OtherPod,
    /// Leaves the node's own stack by the uplink.
    Node,
    /// Leaves the node's own stack towards the pod.
    NodeToPod,
    /// Leaves by the uplink as a tunnel's device that has no link-layer header: the frame begins with the
    /// network header.
    Bare,
}

impl Lab {
    /// Runs a packet given as text; the answer is `VERDICT PACKET`.
    #[track_caller]
    pub(crate) fn run(&mut self, at: At, packet: &str) -> String {
        let (verdict, frame) = self.run_frame(at, &frame(packet));
        match verdict.as_str() {
            "drop" => verdict,
            _ => format!("{verdict} {}", describe(&frame)),
        }
    }

    /// Runs a frame; the answer is the verdict and the frame that comes out.
    #[track_caller]
    pub(crate) fn run_frame(&mut self, at: At, frame: &[u8]) -> (String, Vec<u8>) {
        let policed = self.programs.are_policed();
        let from_pod = if policed {
            "policed_ingress"
        } else {
            "workload_ingress"
        };
        let (program, interface) = match at {
            At::Uplink => ("uplink_ingress", self.uplink),
            At::Pod => (from_pod, self.pod),
            At::OtherPod => (from_pod, super::index("other")),
            At::Node => ("egress", self.uplink),
            At::NodeToPod if policed => ("policed_egress", self.pod),
            At::NodeToPod => ("egress", self.pod),
            At::Bare => ("tunnel_egress", self.uplink),
        };
        // `__sk_buff` of linux/bpf.h; `ifindex` is its eleventh word.
        let mut context = [0; 192];
        context[40..44].copy_from_slice(&interface.to_ne_bytes());
        let mut out = vec![0; frame.len() + 128];
        let program = self.programs.classifier(program).unwrap();
        let options = TestRunOptions {
            data_in: Some(frame),
            data_out: Some(&mut out),
            ctx_in: Some(&context),
            ..TestRunOptions::default()
        };
        let result = program.test_run(options).unwrap();
        let verdict = match result.return_value.cast_signed() {
            -1 => "pass",
            2 => "drop",
            7 => "redirect",
            other => panic!("verdict {other}"),
        };
        out.truncate(usize::try_from(result.data_size_out).unwrap());
        (verdict.to_owned(), out)
    }
}
