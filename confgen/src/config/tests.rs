use expect_test::{Expect, expect};

use super::compat::{dispatcher, kube2lb, pyconfd};
use super::{File, parse};

#[track_caller]
fn refused(text: &str, expected: Expect) {
    let mistake = parse(text).err().map(|mistake| mistake.to_string());
    expected.assert_eq(&mistake.unwrap_or_default());
}

#[test]
fn mistakes_say_which_key_and_what_to_do() {
    refused(
        "[endpoint]\n",
        expect![[r#"
            TOML parse error at line 1, column 2
              |
            1 | [endpoint]
              |  ^^^^^^^^
            unknown field `endpoint`, expected one of `cluster`, `listen`, `defaults`, `endpoints`, `services`, `pods`, `ingress`, `gateway`, `host_claims`, `haproxy`, `nginx`, `templates`, `apply`, `status`"#]],
    );
    refused(
        "",
        expect![
            "no convention is on: add [endpoints], [services], [[pods]], [ingress] or [gateway]"
        ],
    );
    refused(
        "[endpoints]\n[listen]\nhttp = ['80']\n",
        expect![[r#"listen.http[0] is "80", not ADDRESS:PORT as in 0.0.0.0:80 or [::]:80"#]],
    );
    refused(
        "[endpoints]\n[listen]\nhttp = ['0.0.0.0:443']\n",
        expect!["listen.https has port 443 as http has; a port speaks one of the two"],
    );
    refused(
        "[endpoints]\n[defaults]\nconnect_timeout = '5'\n",
        expect![[r#"
            TOML parse error at line 3, column 19
              |
            3 | connect_timeout = '5'
              |                   ^^^
            is "5", not a duration as in 250ms, 5s, 2m or 1h"#]],
    );
    refused(
        "[services]\nserver_names = ['{{ .Service.Foo }}']\n",
        expect![[
            r#"services.server_names[0] "{{ .Service.Foo }}": {{ .Service.Foo }} is no field; there are .Service.Name .Service.Namespace .Service.Port.Name .Service.Port.Port .Service.Port.Mode .Service.NodePort .Domain"#
        ]],
    );
    refused(
        "[endpoints]\n[[templates]]\nfile = '/a'\noutput = '/b'\ngrammar = 'xml'\n",
        expect![[
            r#"templates[0].grammar is "xml", not haproxy, nginx, keepalived, map, json or plain"#
        ]],
    );
    refused(
        "[endpoints]\n[cluster]\nmanifests = '/a'\nservers = ['https://x']\n",
        expect!["cluster.manifests excludes servers and kubeconfig: objects come from one place"],
    );
}

#[test]
fn credentials_are_whole_and_said_once() {
    for (keys, expected) in [
        (
            "client_key = 'k'",
            "cluster.client_key is without cluster.client_certificate",
        ),
        (
            "client_certificate = 'c'",
            "cluster.client_certificate is without cluster.client_key",
        ),
        (
            "certificate_authority = 'c'\ninsecure_skip_tls_verify = true",
            "cluster.certificate_authority contradicts cluster.insecure_skip_tls_verify = true: remove one of them",
        ),
        (
            "certificate_authority = 'c'\nkubeconfig = 'k'",
            "cluster.certificate_authority excludes cluster.kubeconfig, which says it itself",
        ),
        (
            "insecure_skip_tls_verify = true",
            "cluster.insecure_skip_tls_verify is for cluster.servers, of which there are none",
        ),
    ] {
        let mistake = parse(&format!("[endpoints]\n[cluster]\n{keys}\n")).unwrap_err();
        assert_eq!(mistake.to_string(), expected);
    }
}

/// What an original's flags come to is a native file, and reads back as itself.
#[track_caller]
fn same_again(file: &File, expected: Expect) {
    let text = toml::to_string(file).unwrap();
    expected.assert_eq(&text);
    assert_eq!(toml::from_str::<File>(&text).as_ref(), Ok(file));
    parse(&text).unwrap();
}

#[test]
fn dispatcher_is_carried_over() {
    let carried = dispatcher::carry(|name| match name {
        "PORT" => Some("8080".to_owned()),
        "API_KEY_HEADER" => Some("X-Key".to_owned()),
        "NGINX_MAX_CLIENT_BODY_SIZE" => Some("8m".to_owned()),
        "SSL_CERT" => Some("/x".to_owned()),
        _ => None,
    })
    .unwrap();
    same_again(
        &carried.file,
        expect![[r#"
            [cluster]

            [listen]
            http = ["0.0.0.0:8080"]
            https = ["0.0.0.0:443"]

            [defaults]
            unknown_host = "close"
            unknown_path = 404
            status_path = "/dispatcher/status"
            balance = "roundrobin"
            connect_timeout = "5s"
            server_timeout = "1m"
            client_timeout = "1m"
            max_body_bytes = 8388608

            [[pods]]
            name = "public"
            hosts_annotation = "github.com/30x.dispatcher.hosts"
            paths_annotation = "github.com/30x.dispatcher.paths"
            secret = "routing"
            key_field = "api-key"
            key_header = "X-Key"
            key_base64 = true
            missing_key = "allow"
            health_checks = false
            unknown_path = 404

            [pods.labels]
            "github.com/30x.dispatcher.routable" = "true"

            [nginx]
            directory = "/etc/nginx"
            pid_file = "/run/nginx.pid"
            check = "nginx -t -q -c"
            temporary_directory = "/var/lib/nginx"

            [apply]
            quiet = "100ms"
            max_wait = "1s"
            reload_gap = "2s"
            reloads_per_hour = 360
            max_old_processes = 8
            max_shrink_percent = 50
            check_timeout = "1m"
            drift_check = "1m"
            drift = "repair"

            [status]
            listen = "127.0.0.1:9115"
            lease = "kube-system/fairlead-confgen"
        "#]],
    );
    expect!["SSL_CERT and SSL_KEY are not read: with them the original answered hosts that it did not know, whose handshakes are refused here; hosts have theirs of their Secrets"].assert_eq(&carried.notes.join("\n"));
    for (name, value) in [
        ("PORT", "0"),
        ("PORT", "http"),
        ("DEFAULT_LOCATION_RETURN", "http://x"),
        ("ROUTABLE_LABEL_SELECTOR", "a in (b)"),
    ] {
        let carried = dispatcher::carry(|of| (of == name).then(|| value.to_owned()));
        assert!(
            carried.is_err_and(|mistake| mistake.to_string().starts_with(name)),
            "{name}"
        );
    }
}

#[test]
fn kube2lb_is_carried_over() {
    use clap::Parser as _;
    let arguments = "kube2lb -apiserver http://a -config /etc/haproxy/haproxy.cfg -template /t --notify debug -server-name-templates {{.Service.Name}}.x,{{.Domain}}";
    let arguments = kube2lb::with_two_dashes(arguments.split(' ').map(str::to_owned));
    let carried = kube2lb::carry(kube2lb::Flags::try_parse_from(arguments).unwrap());
    same_again(
        &carried.file,
        expect![[r#"
            [cluster]
            servers = ["http://a"]

            [listen]
            http = ["0.0.0.0:80"]
            https = ["0.0.0.0:443"]

            [defaults]
            unknown_host = "close"
            unknown_path = 404
            balance = "roundrobin"
            connect_timeout = "5s"
            server_timeout = "1m"
            client_timeout = "1m"

            [services]
            server_names = ["{{.Service.Name}}.x", "{{.Domain}}"]
            domain = "local"
            default_address = "0.0.0.0"
            default_mode = "http"
            servers = "endpoints"

            [[templates]]
            file = "/t"
            output = "/etc/haproxy/haproxy.cfg"
            grammar = "haproxy"
            notify = ["debug:"]

            [apply]
            quiet = "100ms"
            max_wait = "1s"
            reload_gap = "2s"
            reloads_per_hour = 360
            max_old_processes = 8
            max_shrink_percent = 50
            check_timeout = "1m"
            drift_check = "1m"
            drift = "repair"

            [status]
            listen = "127.0.0.1:9115"
            lease = "kube-system/fairlead-confgen"
        "#]],
    );
    assert_eq!(carried.notes, [""; 0]);
    let asked = kube2lb::with_two_dashes(["kube2lb", "-version"].map(str::to_owned).into_iter());
    let answer = kube2lb::Flags::try_parse_from(asked).unwrap_err();
    assert_eq!(answer.kind(), clap::error::ErrorKind::DisplayVersion);
}

#[test]
fn pyconfd_certificates_are_carried_over() {
    use clap::Parser as _;
    let cluster = |line: &str, default_ca: bool| {
        let flags = pyconfd::Flags::try_parse_from(line.split(' ')).unwrap();
        let carried = pyconfd::carry(&flags, |_| default_ca);
        carried.map(|carried| toml::to_string(&carried.file.cluster).unwrap())
    };
    for (line, default_ca, expected) in [
        (
            "pyconfd --api-servers https://a --ssl-key k --ssl-cert c --ssl-ca /ca",
            true,
            "client_certificate = \"c\"\nclient_key = \"k\"\ncertificate_authority = \"/ca\"\n",
        ),
        (
            "pyconfd --api-servers https://a",
            true,
            "certificate_authority = \"/etc/pyconfd/ca.pem\"\n",
        ),
        ("pyconfd --api-servers https://a", false, ""),
        ("pyconfd --api-servers http://a", true, ""),
        (
            "pyconfd --api-servers https://a --ssl-ca False",
            true,
            "insecure_skip_tls_verify = true\n",
        ),
    ] {
        let scheme = if line.contains("https") {
            "https"
        } else {
            "http"
        };
        let expected = format!("servers = [\"{scheme}://a\"]\n{expected}resync = \"30s\"\n");
        assert_eq!(cluster(line, default_ca), Ok(expected), "{line}");
    }
    let half = cluster("pyconfd --api-servers https://a --ssl-key k", false);
    assert!(half.unwrap_err().to_string().contains("--ssl-cert"));
    // The variables say the same.
    let variables = |name: &str| match name {
        "APISERVERS" => Some("https://a".to_owned()),
        "SSL_CERT_FILE" => Some("c".to_owned()),
        "SSL_KEY_FILE" => Some("k".to_owned()),
        "SSL_CA_FILE" => Some("/ca".to_owned()),
        _ => None,
    };
    assert_eq!(
        pyconfd::arguments(Vec::new(), variables).join(" "),
        "--api-servers=https://a --ssl-key=k --ssl-cert=c --ssl-ca=/ca"
    );
}

#[test]
fn pyconfd_is_carried_over() {
    use clap::Parser as _;
    let arguments = "pyconfd --api-servers https://a,https://b --interval 5";
    let flags = pyconfd::Flags::try_parse_from(arguments.split(' ')).unwrap();
    let nowhere = |_: &std::path::Path| false;
    let carried = pyconfd::carry(&flags, nowhere).unwrap();
    let variables = |name: &str| match name {
        "APISERVERS" => Some("https://a,https://b".to_owned()),
        "REFRESH_INTERVAL" => Some("5".to_owned()),
        _ => None,
    };
    let of_variables = pyconfd::arguments(Vec::new(), variables);
    let of_variables = [vec!["pyconfd".to_owned()], of_variables].concat();
    let of_variables = pyconfd::Flags::try_parse_from(of_variables).unwrap();
    assert_eq!(
        pyconfd::carry(&of_variables, nowhere).as_ref(),
        Ok(&carried)
    );
    let quiet = "pyconfd --api-servers https://a --log-level ERROR";
    let quiet = pyconfd::Flags::try_parse_from(quiet.split(' ')).unwrap();
    let notes = pyconfd::carry(&quiet, nowhere).unwrap().notes.join("\n");
    assert!(notes.contains("RUST_LOG"), "{notes}");
    let flags_alone = pyconfd::arguments(vec!["--interval=1".to_owned()], variables);
    assert_eq!(flags_alone, ["--interval=1"]);
    same_again(
        &carried.file,
        expect![[r#"
            [cluster]
            servers = ["https://a", "https://b"]
            resync = "5s"

            [listen]
            http = ["0.0.0.0:80"]
            https = ["0.0.0.0:443"]

            [defaults]
            unknown_host = "close"
            unknown_path = 404
            balance = "roundrobin"
            connect_timeout = "5s"
            server_timeout = "1m"
            client_timeout = "1m"

            [endpoints]
            domain_annotation = "domain"
            protocol_annotation = "proto"

            [[templates]]
            directory = "/etc/pyconfd"
            output = "/etc/haproxy/haproxy.cfg"
            grammar = "haproxy"
            check = "/usr/sbin/haproxy -c -q -f"
            notify = ["command:/etc/init.d/haproxy reload"]

            [apply]
            quiet = "100ms"
            max_wait = "1s"
            reload_gap = "2s"
            reloads_per_hour = 360
            max_old_processes = 8
            max_shrink_percent = 50
            check_timeout = "1m"
            drift_check = "1m"
            drift = "repair"

            [status]
            listen = "127.0.0.1:9115"
            lease = "kube-system/fairlead-confgen"
        "#]],
    );
}
