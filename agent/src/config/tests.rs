//! Flags to configuration, and to their page.

use std::fmt::Write as _;
use std::time::Duration;

use clap::{CommandFactory as _, Parser as _};
use expect_test::expect_file;

use super::arguments::Arguments;
use super::{Config, ConfigError};
use crate::desired::node::NodePortAddresses;
use crate::lb::ebpf::settings::Timeouts;

fn config(flags: &[&str]) -> Result<Config, ConfigError> {
    let program = [
        "fairlead-agent",
        "--manifests",
        "m",
        "--hostname-override",
        "Node-1",
    ];
    Config::new(Arguments::try_parse_from(program.iter().chain(flags)).unwrap())
}

#[test]
fn booleans_are_taken_as_kube_router_takes_them() {
    assert!(config(&[]).unwrap().run_service_proxy);
    assert!(
        !config(&["--run-service-proxy=false"])
            .unwrap()
            .run_service_proxy
    );
    assert!(
        config(&["--masquerade-all"])
            .unwrap()
            .translation
            .masquerade_all
    );
    assert!(
        config(&["--masquerade-all=true"])
            .unwrap()
            .translation
            .masquerade_all
    );
}

#[test]
fn relative_paths_are_from_where_the_agent_starts() {
    let config = config(&["--socket", "run/a.sock", "--state-dir=./kept"]).unwrap();
    let here = std::env::current_dir().unwrap();
    assert_eq!(config.paths.socket, here.join("run/a.sock"));
    assert_eq!(config.paths.state_dir, here.join("kept"));
}

#[test]
fn the_switches_of_cleanup_are_taken_alone_and_with_a_value() {
    for (flags, expected) in [
        (&["--cleanup-config"][..], (true, false)),
        (&["--cleanup-config=true", "--dry-run"], (true, true)),
        (
            &["--cleanup-config", "--dry-run=true", "--dry-run=false"],
            (true, false),
        ),
    ] {
        let arguments = Arguments::try_parse_from(["fairlead-agent"].iter().chain(flags)).unwrap();
        let removal = arguments.removal;
        let found = (removal.cleanup_config, removal.dry_run);
        assert_eq!(found, expected, "{flags:?}");
    }
}

#[test]
fn timeouts_are_as_given_and_zero_is_the_default() {
    let timeouts = |flags: &[&str]| config(flags).unwrap().translation.timeouts;
    let default = Timeouts::default();
    assert_eq!(timeouts(&[]), default);
    let [tcp, tcp_closing, udp] = [1, 2, 3].map(Duration::from_secs);
    let given = [
        "--service-tcp-timeout=1s",
        "--service-tcpfin-timeout=2s",
        "--service-udp-timeout=3s",
    ];
    let expected = Timeouts {
        tcp,
        tcp_closing,
        udp,
    };
    assert_eq!(timeouts(&given), expected);
    let zero = given.map(|flag| format!("{}=0s", flag.split('=').next().unwrap()));
    assert_eq!(timeouts(&zero.each_ref().map(String::as_str)), default);
    let mixed = ["--service-tcp-timeout=0s", "--service-udp-timeout=1m"];
    let expected = Timeouts {
        udp: Duration::from_secs(60),
        ..default
    };
    assert_eq!(timeouts(&mixed), expected);
}

#[test]
fn node_ports_are_served_where_the_flags_say() {
    let within = |networks: &[&str]| {
        let networks = networks.iter().map(|network| network.parse().unwrap());
        NodePortAddresses::Within(networks.collect())
    };
    for (flags, expected) in [
        (&[][..], NodePortAddresses::Primary),
        (
            &["--nodeport-addresses=primary"],
            NodePortAddresses::Primary,
        ),
        (
            &["--nodeport-addresses=10.9.0.0/16,fd00:9::/64"],
            within(&["10.9.0.0/16", "fd00:9::/64"]),
        ),
        (&["--nodeport-bindon-all-ip"], NodePortAddresses::All),
        (
            &["--nodeport-bindon-all-ip=false"],
            NodePortAddresses::Primary,
        ),
    ] {
        let exposure = config(flags).unwrap().exposure;
        assert_eq!(exposure.node_ports, expected, "{flags:?}");
        assert!(exposure.loopback, "{flags:?}");
    }
    for flag in ["localhost-nodeports", "iptables-localhost-nodeports"] {
        let flag = format!("--{flag}=false");
        assert!(!config(&[&flag]).unwrap().exposure.loopback, "{flag}");
    }
    for flags in [
        &["--nodeport-addresses=primary,10.9.0.0/16"][..],
        &[
            "--nodeport-addresses=10.9.0.0/16",
            "--nodeport-bindon-all-ip",
        ],
    ] {
        let refused = config(flags).unwrap_err();
        assert!(
            matches!(refused, ConfigError::NodePortAddresses),
            "{flags:?}: {refused}"
        );
    }
    let exposure = |flags: &[&str]| config(flags).unwrap().exposure;
    assert!(!exposure(&[]).any_external);
    assert!(exposure(&["--strict-external-ip-validation=false"]).any_external);
}

#[test]
fn flags_without_effect_are_named_unless_they_turn_off_what_is_missing() {
    let flags = [
        "--advertise-cluster-ip",
        "--run-firewall=false",
        "--iptables-sync-period=5m",
        "--use-nftables-for-netpol",
        "--hairpin-mode",
    ];
    assert_eq!(
        config(&flags).unwrap().without_effect,
        [
            "--iptables-sync-period",
            "--use-nftables-for-netpol",
            "--advertise-cluster-ip"
        ]
    );
}

#[test]
fn what_makes_no_sense_is_refused() {
    assert!(matches!(
        config(&["--cluster-cidr=10.0.0.0/8,10.1.0.0/16"]),
        Err(ConfigError::ClusterCidr(..))
    ));
    assert!(matches!(
        config(&["--max-backends=0"]),
        Err(ConfigError::Empty("max-backends"))
    ));
    assert!(matches!(
        config(&["--cleanup-config=false", "--dry-run"]),
        Err(ConfigError::DryRun)
    ));
    for flag in ["netpol-default-deny", "netpol-keep-connections"] {
        let refused = config(&["--run-firewall=false", &format!("--{flag}")]).unwrap_err();
        assert!(
            matches!(refused, ConfigError::WithoutFirewall(named) if named == flag),
            "{refused}"
        );
    }
    for flags in [
        &["--config-sync-period=0"][..],
        &["--config-sync-period=soon"],
        &["--cluster-cidr=10.0.0.0/33"],
        &["--health-addr=here"],
        &["--master=https://a", "--manifests=m"],
        &["--dry-run"],
    ] {
        assert!(
            Arguments::try_parse_from(["fairlead-agent"].iter().chain(flags)).is_err(),
            "{flags:?}"
        );
    }
}

#[test]
fn the_name_of_the_node_is_as_kubelet_has_it() {
    assert_eq!(&*config(&[]).unwrap().node_name, "node-1");
}

/// `docs/flags.md` says what the flags say. `UPDATE_EXPECT=1 cargo test -p agent` writes it.
#[test]
fn the_page_of_flags_is_up_to_date() {
    let command = Arguments::command();
    let mut page = "# Flags of fairlead-agent\n".to_owned();
    write_flags(&mut page, &command, "Other");
    for subcommand in command.get_subcommands() {
        write_flags(
            &mut page,
            subcommand,
            &format!("Of `{}`", subcommand.get_name()),
        );
    }
    expect_file!["../../../docs/flags.md"].assert_eq(&page);
}

/// Writes the flags of a command; `bare` stands over those without a heading.
fn write_flags(page: &mut String, command: &clap::Command, bare: &str) {
    let mut heading = None;
    for flag in command
        .get_arguments()
        .filter(|flag| !flag.is_hide_set() && flag.get_long().is_some())
    {
        let group = flag.get_help_heading().unwrap_or(bare);
        if heading != Some(group) {
            write!(
                page,
                "\n## {group}\n\n| flag | default | meaning |\n|---|---|---|\n"
            )
            .unwrap();
            heading = Some(group);
        }
        let value = flag
            .get_value_names()
            .and_then(|names| names.first())
            .map(|name| format!(" {name}"));
        let value = value
            .filter(|_| flag.get_action().takes_values())
            .unwrap_or_default();
        let default: Vec<_> = flag
            .get_default_values()
            .iter()
            .map(|value| value.to_string_lossy())
            .collect();
        let help = flag.get_help().map(ToString::to_string).unwrap_or_default();
        writeln!(
            page,
            "| `--{}{value}` | {} | {help} |",
            flag.get_long().unwrap(),
            default.join(",")
        )
        .unwrap();
    }
}
