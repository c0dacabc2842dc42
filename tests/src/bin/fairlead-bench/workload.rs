//! Many Services, as manifests and as numbers.

use std::fmt::Write as _;
use std::net::Ipv4Addr;

use anyhow::Result;
use tests::harness::Manifests;

/// Endpoints of each Service.
pub(crate) const ENDPOINTS: u32 = 5;
/// Services in one file, as `kubectl get -o yaml` of a namespace might give.
const SERVICES_A_FILE: u32 = 100;
/// File of the Service that the bench changes, alone in it.
pub(crate) const CHANGED_FILE: &str = "changed.yaml";
/// Number of that Service.
pub(crate) const CHANGED: u32 = 0;

/// The cluster IP of a Service, in 10.96.0.0/16.
pub(crate) fn service_ip(service: u32) -> Ipv4Addr {
    Ipv4Addr::from(0x0a60_0000 + 1 + service)
}

/// The address of an endpoint, in 10.128.0.0/9: of no pod of the lab.
pub(crate) fn endpoint_ip(service: u32, endpoint: u32) -> Ipv4Addr {
    Ipv4Addr::from(0x0a80_0000 + 1 + service * ENDPOINTS + endpoint)
}

/// Another address for the last endpoint of the Service that is changed.
pub(crate) fn other_ip(round: u32) -> Ipv4Addr {
    Ipv4Addr::from(0x0af0_0000 + 1 + round)
}

/// Writes `services` Services with their endpoints.
pub(crate) fn write(manifests: &Manifests, services: u32) -> Result<()> {
    write_changed(manifests, None)?;
    for first in (CHANGED + 1..services).step_by(usize::try_from(SERVICES_A_FILE)?) {
        let last = services.min(first + SERVICES_A_FILE);
        let texts: Vec<_> = (first..last).map(|service| text(service, None)).collect();
        manifests.write_text(&format!("services-{first:05}.yaml"), &texts.concat())?;
    }
    Ok(())
}

/// Writes the one that is changed, with another last endpoint.
pub(crate) fn write_changed(manifests: &Manifests, last: Option<Ipv4Addr>) -> Result<()> {
    manifests.write_text(CHANGED_FILE, &text(CHANGED, last))
}

fn text(service: u32, last: Option<Ipv4Addr>) -> String {
    let ip = service_ip(service);
    let mut text = format!(
        "---
apiVersion: v1
kind: Service
metadata:
  name: service-{service}
  namespace: bench
spec:
  type: ClusterIP
  clusterIP: {ip}
  clusterIPs: [{ip}]
  ports:
    - name: http
      protocol: TCP
      port: 80
      targetPort: 8080
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: service-{service}-x7x2b
  namespace: bench
  labels:
    kubernetes.io/service-name: service-{service}
addressType: IPv4
ports:
  - name: http
    protocol: TCP
    port: 8080
endpoints:
"
    );
    for endpoint in 0..ENDPOINTS {
        let address = last
            .filter(|_| endpoint + 1 == ENDPOINTS)
            .unwrap_or_else(|| endpoint_ip(service, endpoint));
        // Writing to a string cannot fail.
        let _written = write!(
            text,
            "  - addresses: [{address}]
    nodeName: node2
    conditions: {{ready: true}}
"
        );
    }
    text
}
