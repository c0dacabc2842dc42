mod carried_over;

use expect_test::{Expect, expect};

use super::parse;

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
    // In the original any text that compiles as an expression was a path.
    refused(
        "[endpoints]\n[defaults]\nstatus_path = '/<>asd'\n",
        expect![[
            r#"defaults.status_path "/<>asd" is not a path of letters, digits and -._~!+,=:@/%"#
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
