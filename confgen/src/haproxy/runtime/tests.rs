use std::sync::Arc;
use std::time::Instant;

use super::{Cause, Change, Command, Image, Leaving, ServerRef, ServerStatus, changes};
use crate::edge::EdgePlan;
use crate::output::{File, Grammar, Rendered};

fn rendered(main: &str, others: &[(&str, Grammar, &str)]) -> Rendered {
    let file = |grammar, content: &str| {
        Arc::new(File {
            content: content.as_bytes().to_vec(),
            grammar,
            is_private: false,
        })
    };
    let mut files: std::collections::BTreeMap<_, _> = others
        .iter()
        .map(|(name, grammar, content)| ((*name).to_owned(), file(*grammar, content)))
        .collect();
    files.insert("haproxy.cfg".to_owned(), file(Grammar::Haproxy, main));
    Rendered {
        files,
        main: "haproxy.cfg".to_owned(),
        generation: None,
    }
}

fn change(old: &Rendered, new: &Rendered, leaving: &Leaving) -> Change {
    let plan = EdgePlan::default();
    let image = |rendered| Image {
        plan: &plan,
        rendered,
    };
    changes(image(old), image(new), leaving)
}

const BASE: &str = "frontend f\n bind 127.0.0.1:80 ssl crt-list certs.list\n \
    use_backend %[req.hdr(host),map_str(hosts.map)]\n";

/// Commands by their names, or causes.
#[track_caller]
fn check(old: &str, new: &str, expected: &[&str]) {
    let main = |servers: &str| format!("{BASE}backend b\n balance roundrobin\n{servers}\n");
    let (old, new) = (rendered(&main(old), &[]), rendered(&main(new), &[]));
    assert_eq!(told(change(&old, &new, &Leaving::default())), expected);
}

fn told(change: Change) -> Vec<String> {
    match change {
        Change::Nothing => vec!["nothing".to_owned()],
        Change::Runtime(commands) => commands.iter().map(short).collect(),
        Change::Reload { causes } => causes
            .into_iter()
            .map(|Cause { what, .. }| format!("reload: {what}"))
            .collect(),
    }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the other commands show themselves"
)]
fn short(command: &Command) -> String {
    match command {
        Command::AddServer {
            server,
            address,
            options,
        } => format!("add {server} {address} {}", options.join(" ")),
        Command::SetAddress {
            server,
            address,
            port,
        } => format!("move {server} {address} {port}"),
        Command::SetWeight { server, weight } => format!("weigh {server} {weight}"),
        Command::SetStatus { server, status } => format!("{status:?} {server}"),
        other => format!("{other:?}"),
    }
}

#[test]
fn servers_change_without_a_reload() {
    let one = "server a 10.0.0.1:80 check";
    check(one, one, &["nothing"]);
    check(one, "# a comment\nserver a 10.0.0.1:80 check", &[]);
    check(
        one,
        "server a 10.0.0.1:80 check\nserver b [::1]:81 weight 3 check",
        &["add b/b [::1]:81 weight 3 check"],
    );
    check(one, "server a 10.0.0.2:81 check", &["move b/a 10.0.0.2 81"]);
    check(one, "server a 10.0.0.1:80 check weight 0", &["weigh b/a 0"]);
    check(
        one,
        "server a 10.0.0.1:80 check disabled",
        &["Maintenance b/a"],
    );
    check(one, "", &["Maintenance b/a"]);
    check(
        one,
        "server b 10.0.0.1:80",
        &["add b/b 10.0.0.1:80 weight 1", "Maintenance b/a"],
    );
}

#[test]
fn what_haproxy_cannot_change_is_a_reload_with_its_cause() {
    let one = "server a 10.0.0.1:80";
    check(
        one,
        "server a 10.0.0.1:80 check",
        &["reload: backend b: a server has other options"],
    );
    check(
        one,
        "server a 10.0.0.1:80\nserver b app.example:80",
        &["reload: backend b: a server is added at a name, which only a start resolves"],
    );
    check(
        one,
        "server a 10.0.0.1:80\nserver b 10.0.0.1:80 cookie b",
        &["reload: backend b: a server is added with an option that only a start takes"],
    );
    check(
        one,
        "server a 10.0.0.1:80\ntimeout server 3s\nhttp-request deny unless KEY",
        &["reload: backend b: http-request, timeout changed"],
    );
    check(
        one,
        "server a 10.0.0.1:80\nbackend c",
        &["reload: backend c: added"],
    );
}

#[test]
fn hosts_and_certificates_change_without_a_reload() {
    let files = |hosts: &'static str, list: &'static str, pems: &[&'static str]| {
        let mut files = vec![
            ("hosts.map", Grammar::Map, hosts),
            ("certs.list", Grammar::Map, list),
        ];
        files.extend(pems.iter().map(|name| (*name, Grammar::Pem, "pem")));
        rendered(BASE, &files)
    };
    let old = files(
        "a.example b\n",
        "z.pem z\na1.pem a.example\n",
        &["z.pem", "a1.pem"],
    );
    let new = files(
        "b.example b\n",
        "z.pem z\na2.pem a.example\n",
        &["z.pem", "a2.pem"],
    );
    let told_of = |old: &Rendered, new: &Rendered| -> Vec<String> {
        let names = told(change(old, new, &Leaving::default())).into_iter();
        let first = |text: String| match text.split_once([' ', '(']) {
            Some((name, _)) if !text.starts_with("reload") => name.to_owned(),
            _ => text,
        };
        names.map(first).collect()
    };
    assert_eq!(
        told_of(&old, &new),
        [
            "NewCertificate",
            "AddToList",
            "AddEntry",
            "DeleteEntry",
            "RemoveFromList",
            "DeleteCertificate",
        ]
    );
    let other_default = files(
        "a.example b\n",
        "a1.pem a.example\nz.pem z\n",
        &["z.pem", "a1.pem"],
    );
    assert_eq!(
        told_of(&old, &other_default),
        ["reload: certs.list: another default certificate"]
    );
    // The process has read no other authorities than those that its lists name.
    let clients = |file: &'static str| {
        let list: &'static str = match file {
            "a1.pem" => "z.pem z\na1.pem [ca-file ca.pem] a\n",
            "a2.pem" => "z.pem z\na2.pem [ca-file ca.pem] a\n",
            _ => "z.pem z\na1.pem [ca-file other.pem] a\n",
        };
        files("", list, &["z.pem", file, "ca.pem", "other.pem"])
    };
    assert_eq!(
        told_of(&clients("a1.pem"), &clients("a2.pem")),
        [
            "NewCertificate",
            "AddToList",
            "RemoveFromList",
            "DeleteCertificate"
        ]
    );
    assert_eq!(
        told_of(&clients("a2.pem"), &clients("other")),
        ["reload: authorities other.pem are new, which a start reads"]
    );
    let same = |content: &'static str| rendered(BASE, &[("error.http", Grammar::Plain, content)]);
    assert_eq!(
        told_of(&same("a"), &same("b")),
        ["reload: file error.http changed"]
    );
}

#[test]
fn a_server_that_still_leaves_comes_back() {
    let main = |servers: &str| rendered(&format!("{BASE}backend b\n{servers}\n"), &[]);
    let server = ServerRef {
        backend: "b".to_owned(),
        server: "a".to_owned(),
    };
    let mut leaving = Leaving::default();
    leaving.add(server.clone(), vec!["check".to_owned()], Instant::now());
    let back = change(&main(""), &main("server a 10.0.0.9:80 check"), &leaving);
    assert_eq!(
        told(back),
        ["move b/a 10.0.0.9 80", "weigh b/a 1", "Ready b/a"]
    );
    let other = change(&main(""), &main("server a 10.0.0.9:80"), &leaving);
    assert_eq!(
        told(other),
        ["reload: backend b: a server is still leaving with other options"]
    );
    assert_eq!(
        change(&main("server a 10.0.0.9:80"), &main(""), &leaving),
        Change::Runtime(vec![Command::SetStatus {
            server,
            status: ServerStatus::Maintenance,
        }])
    );
}

#[test]
fn who_takes_over_is_there_before_another_gets_nothing_new() {
    check(
        " server s1 10.0.0.1:80 weight 1\n server s2 10.0.0.2:80 weight 1 disabled",
        " server s1 10.0.0.1:80 weight 0\n server s2 10.0.0.2:80 weight 1\n server s3 10.0.0.3:80 weight 1",
        &[
            "Ready b/s2",
            "add b/s3 10.0.0.3:80 weight 1",
            "weigh b/s1 0",
        ],
    );
}
