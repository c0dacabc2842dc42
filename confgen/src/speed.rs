//! How long rendering takes. For tests; `cargo test --release -p confgen speed -- --ignored`.

use std::time::{Duration, Instant};

use crate::{haproxy, nginx, proxies, samples};

/// Hosts of two endpoints each, and how long a full render with its proof may take.
const BUDGETS: [(u16, Duration); 2] = [
    (1_000, Duration::from_millis(100)),
    (10_000, Duration::from_secs(1)),
];

#[test]
#[ignore = "measures an optimised build"]
fn many_hosts_are_rendered_in_time() {
    for (hosts, budget) in BUDGETS {
        let plan = samples::many(hosts);
        let start = Instant::now();
        haproxy::render(&plan, &haproxy::Options::default()).expect("HAProxy's files");
        let of_haproxy = start.elapsed();
        let start = Instant::now();
        nginx::render(&plan, &proxies::nginx_options()).expect("nginx's files");
        let of_nginx = start.elapsed();
        eprintln!("{hosts} hosts: haproxy {of_haproxy:?}, nginx {of_nginx:?}");
        assert!(
            of_haproxy < budget,
            "HAProxy, {hosts} hosts: {of_haproxy:?}"
        );
        assert!(of_nginx < budget, "nginx, {hosts} hosts: {of_nginx:?}");
    }
}
