//! How to look around in a lab that was kept.

use std::path::Path;

use crate::LAB;
use crate::edge::WEB_HOST;
use crate::shop::Shop;

/// Prints the commands.
pub(crate) fn explain(shop: &Shop, policies: &Path) {
    let Shop { lab, .. } = shop;
    let directory = lab.directory().display();
    let demo = std::env::current_exe().map_or_else(
        |_| "fairlead-demo".to_owned(),
        |path| path.display().to_string(),
    );
    let agent = tests::harness::agent_program()
        .ok()
        .and_then(|path| path.canonicalize().ok())
        .map_or_else(
            || "fairlead-agent".to_owned(),
            |path| path.display().to_string(),
        );
    anstream::println!(
        "
The lab is still there. Look around:

  ip netns | grep {LAB}                                       its nodes and pods
  {agent} status --socket {directory}/node1/agent.sock
  {agent} services shop/web --socket {directory}/node1/agent.sock
  nsenter --net=/run/netns/{LAB}-node1 ip route
  {demo} traffic exec --net /run/netns/{LAB}-shopper --cgroup {cgroup}/pods -- \\
    {demo} traffic connect --to 10.96.0.10:80 --count 20
  $EDITOR {directory}/manifests/web.yaml                      the agents see every change
  cp {policies}/web-only-shopper.yaml {directory}/manifests/
  {agent} flows --follow --socket {directory}/node1/agent.sock
  {agent} explain --from shop/api-1 --to shop/web --socket {directory}/node1/agent.sock
  tail {directory}/node1/agent.log
  nsenter --net=/run/netns/{LAB}-client curl -H 'Host: {WEB_HOST}' http://{haproxy}/
  nsenter --net=/run/netns/{LAB}-edge curl http://127.0.0.1:9101/status      nginx: 9102
  less {directory}/edge/haproxy/output/current/haproxy.cfg

Remove it:

  {demo} --remove",
        cgroup = lab.place("node1").cgroup.display(),
        policies = policies.display(),
        haproxy = lab.edge_addresses()[0][0],
    );
}
