//! What the originals' flags, variables and files become.

use expect_test::{Expect, expect};

use super::super::compat::{dispatcher, kube2lb, pyconfd};
use super::super::{File, parse};
use super::refused;

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
        "APP_NAME_LABEL" => Some("app".to_owned()),
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
            redirect_to_tls = false
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
    expect!["APP_NAME_LABEL had no effect in the original, and has none here"]
        .assert_eq(&carried.notes.join("\n"));
    for (name, value) in [
        ("PORT", "0"),
        ("PORT", "http"),
        ("DEFAULT_LOCATION_RETURN", "99"),
        ("DEFAULT_LOCATION_RETURN", "elsewhere"),
        ("ROUTABLE_LABEL_SELECTOR", "a in b"),
        ("SSL_CERT", "/x"),
        ("SSL_KEY", "/x"),
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

#[test]
fn dispatcher_sends_what_nothing_takes_where_its_variables_say() {
    let made = rcgen::generate_simple_self_signed(vec!["edge.example".to_owned()]).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: String| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let certificate = file("crt", made.cert.pem());
    let key = file("key", made.signing_key.serialize_pem());
    let carried = dispatcher::carry(|name| match name {
        "DEFAULT_LOCATION_RETURN" => Some("https://errors.example/".to_owned()),
        "ROUTABLE_LABEL_SELECTOR" => Some("tier in (web,api),!internal".to_owned()),
        "SSL_CERT" => Some(certificate.clone()),
        "SSL_KEY" => Some(key.clone()),
        _ => None,
    })
    .unwrap();
    let text = toml::to_string(&carried.file).unwrap();
    for line in [
        "unknown_path = \"https://errors.example/\"",
        "selector = \"tier in (web,api),!internal\"",
        &format!("certificate = \"{certificate}\""),
        &format!("key = \"{key}\""),
    ] {
        assert!(text.lines().any(|it| it == line), "{line}: {text}");
    }
    assert!(!text.contains("[pods.labels]"), "{text}");
    assert!(
        carried.notes.join("").contains("nobody checks"),
        "{carried:?}"
    );
    let edge = parse(&text).unwrap().edge;
    let fallback = edge.outside.fallbacks.values().next().unwrap();
    let found = (fallback.is_tls, fallback.host.as_str(), fallback.port.get());
    assert_eq!(found, (true, "errors.example", 443));
    assert!(edge.outside.certificate.is_some());
    let selects = |labels: &[(&str, &str)]| {
        let labels = labels.iter().map(|(key, is)| ((*key).into(), (*is).into()));
        edge.pods[0].selector.selects(&labels.collect())
    };
    assert!(selects(&[("tier", "api")]));
    assert!(!selects(&[("tier", "db")]));
    assert!(!selects(&[("tier", "web"), ("internal", "")]));

    std::fs::write(&key, made.cert.pem()).unwrap();
    refused(
        &text,
        expect!["listen.key holds no private key in PEM (RSA, ECDSA P-256 or P-384, Ed25519)"],
    );
}

#[test]
fn what_nothing_takes_goes_to_a_status_or_to_an_origin() {
    let outside = |value: &str| {
        let text = format!("[endpoints]\n[defaults]\nunknown_host = {value}\n");
        let fallbacks = parse(&text).map(|settings| settings.edge.outside.fallbacks);
        fallbacks.map(|found| {
            let each = found.into_values();
            let each = each.map(|it| format!("{} {} {:?}", it.host, it.port, it.addresses));
            each.collect::<Vec<_>>().join(", ")
        })
    };
    for (value, expected) in [
        ("'close'", ""),
        ("404", ""),
        ("'http://errors.example'", "errors.example 80 []"),
        ("'https://Errors.example:8443/'", "errors.example 8443 []"),
        ("'http://192.0.2.1:81'", "192.0.2.1 81 [192.0.2.1]"),
        ("'https://[2001:db8::1]'", "2001:db8::1 443 [2001:db8::1]"),
    ] {
        assert_eq!(outside(value), Ok(expected.to_owned()), "{value}");
    }
    for value in [
        "99",
        "'drop'",
        "'ftp://a'",
        "'http://'",
        "'http://a:0'",
        "'http://a:b'",
        "'http://u@a'",
        "'http://a b'",
        "'http://[a]:80'",
        "'http://[::1'",
        "'http://[::1]80'",
        "'http://a;b'",
        "'http://2001:db8::1'",
    ] {
        assert!(outside(value).is_err(), "{value}");
    }
    refused(
        "[endpoints]\n[defaults]\nunknown_host = 'http://a/b'\n",
        expect![[
            r#"defaults.unknown_host is "http://a/b", with a path; requests are passed on with their own, so leave it out"#
        ]],
    );
    refused(
        "[endpoints]\n[[pods]]\nunknown_path = 'gone'\n",
        expect![[
            r#"pods[0].unknown_path is neither "close", nor a status from 100 to 599, nor a URL"#
        ]],
    );
    refused(
        "[[pods]]\nselector = 'a of (b)'\n",
        expect![[r#"pods[0].selector is "a of (b)": "of" is neither in nor notin"#]],
    );
    refused(
        "[endpoints]\n[listen]\ncertificate = '/a'\n",
        expect!["listen.certificate is without listen.key"],
    );
}
