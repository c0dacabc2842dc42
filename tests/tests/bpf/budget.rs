//! What the verifier walks: it takes time at every start, and kernels before 5.2 stop at a million.

use crate::lab::Lab;

/// Instructions walked. A kernel of another version walks others, but not several times as many.
/// With network policy a pod's programs walk 15,000 more than without; what begins a connection, what
/// follows its first answer, and masquerade are global functions, walked once each.
const BUDGET: u32 = 200_000;

#[test]
fn every_program_is_walked_within_the_budget() {
    let mut lab = Lab::new();
    let mut walked = Vec::new();
    let begun = std::time::Instant::now();
    for name in [
        "uplink_ingress",
        "workload_ingress",
        "egress",
        "policed_ingress",
        "policed_egress",
        "tunnel_egress",
    ] {
        let program = lab.programs().classifier(name).unwrap();
        let info = program.info().unwrap();
        walked.push((name, info.verified_instruction_count().unwrap()));
    }
    eprintln!("{walked:?} in {:?}", begun.elapsed());
    assert!(
        walked.iter().all(|(_, count)| *count <= BUDGET),
        "{walked:?}"
    );
}
