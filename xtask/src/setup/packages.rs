//! The packages that building, testing and comparing need, by the tools that show they are there.

use super::distribution::Names;

/// A package and the tools it is needed for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Package {
    pub(super) names: Names,
    pub(super) tools: &'static [&'static str],
    pub(super) reason: &'static str,
}

/// Every package, in the order in which they are told.
pub(super) const PACKAGES: [Package; 14] = [
    Package {
        names: Names {
            debian: "build-essential",
            fedora: "gcc make",
            suse: "gcc make",
            arch: "base-devel",
        },
        tools: &["cc", "make"],
        reason: "the C and assembly parts of the crate ring",
    },
    Package {
        names: Names {
            debian: "iproute2",
            fedora: "iproute",
            suse: "iproute2",
            arch: "iproute2",
        },
        tools: &["ip"],
        reason: "to look around in a lab",
    },
    Package {
        names: Names {
            debian: "nftables",
            fedora: "nftables",
            suse: "nftables",
            arch: "nftables",
        },
        tools: &["nft"],
        reason: "to look around in a lab, and the ruleset the benchmark compares with",
    },
    Package {
        names: Names {
            debian: "iptables",
            fedora: "iptables-nft",
            suse: "iptables",
            arch: "iptables",
        },
        tools: &["iptables-restore"],
        reason: "the other ruleset the benchmark compares with; nothing else needs it",
    },
    Package {
        names: Names {
            debian: "ethtool",
            fedora: "ethtool",
            suse: "ethtool",
            arch: "ethtool",
        },
        tools: &["ethtool"],
        reason: "switches on what cards do, where the benchmark compares with XDP; nothing else needs it",
    },
    Package {
        names: Names {
            debian: "ipset",
            fedora: "ipset",
            suse: "ipset",
            arch: "ipset",
        },
        tools: &["ipset"],
        reason: "sets of the ruleset that the policy benchmark compares with; nothing else needs it",
    },
    Package {
        names: Names {
            debian: "util-linux",
            fedora: "util-linux",
            suse: "util-linux",
            arch: "util-linux",
        },
        tools: &["nsenter", "unshare"],
        reason: "starts programs in the namespaces of a lab",
    },
    Package {
        names: Names {
            debian: "procps",
            fedora: "procps-ng",
            suse: "procps",
            arch: "procps-ng",
        },
        tools: &["sysctl"],
        reason: "settings of a lab's namespaces",
    },
    Package {
        names: Names {
            debian: "containernetworking-plugins",
            fedora: "containernetworking-plugins",
            suse: "cni-plugins",
            arch: "cni-plugins",
        },
        // Not `bridge`: iproute2 has a program of that name.
        tools: &["portmap", "host-local"],
        reason: "CNI plugins that ours is chained with in tests, and compared with",
    },
    Package {
        names: Names {
            debian: "haproxy",
            fedora: "haproxy",
            suse: "haproxy",
            arch: "haproxy",
        },
        tools: &["haproxy"],
        reason: "the proxy that confgen's configurations are checked by and served with",
    },
    Package {
        names: Names {
            debian: "nginx",
            fedora: "nginx",
            suse: "nginx",
            arch: "nginx",
        },
        tools: &["nginx"],
        reason: "the other one",
    },
    Package {
        names: Names {
            debian: "libnginx-mod-stream",
            fedora: "nginx-mod-stream",
            suse: "nginx",
            arch: "nginx-mod-stream",
        },
        tools: &["ngx_stream_module.so"],
        reason: "hosts whose TLS nginx passes through",
    },
    Package {
        names: Names {
            debian: "caddy",
            fedora: "caddy",
            suse: "caddy",
            arch: "caddy",
        },
        tools: &["caddy"],
        reason: "the example of a proxy that an operator's own template is for",
    },
    Package {
        names: Names {
            debian: "curl",
            fedora: "curl",
            suse: "curl",
            arch: "curl",
        },
        tools: &["curl"],
        reason: "asks the proxies over HTTP/2",
    },
];
