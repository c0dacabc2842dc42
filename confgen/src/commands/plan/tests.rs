use std::fs;
use std::path::Path;

use clap::Parser as _;

use std::sync::Arc;

use super::{Needed, beginning, changed, differing};
use crate::commands::{Arguments, run, status_of};
use crate::config;
use crate::edge::compile;
use crate::output::{File, Grammar, Rendered};
use crate::targets::targets;

const SERVICE: &str = "apiVersion: v1\nkind: Endpoints\nmetadata:\n  name: web\n  \
    namespace: shop\n  annotations: {domain: shop.example, proto: http}\n\
    subsets:\n- addresses: [{ip: 10.0.0.1}]\n  ports: [{port: 80}]\n";

fn edge() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let here = directory.path().display();
    fs::create_dir(at("m")).unwrap();
    fs::write(at("m/web.yaml"), SERVICE).unwrap();
    fs::write(
        at("t.tmpl"),
        "{% for domain in domains %}{{ domain }}\n{% endfor %}",
    )
    .unwrap();
    let config = format!(
        "[cluster]\nmanifests = \"{here}/m\"\n[endpoints]\n[[templates]]\n\
         file = \"{here}/t.tmpl\"\noutput = \"{here}/out\"\ngrammar = \"plain\"\n"
    );
    fs::write(at("c.toml"), config).unwrap();
    directory
}

async fn typed(directory: &Path, words: &[&str]) -> Result<(), (u8, String)> {
    let config = directory.join("c.toml").display().to_string();
    let plan = directory.join("p.json").display().to_string();
    let words = words.iter().map(|word| word.replace("PLAN", &plan));
    let all = ["fairlead-confgen".to_owned()].into_iter().chain(words);
    let all = all.chain(["--config".to_owned(), config]);
    let done = run(Arguments::try_parse_from(all).unwrap()).await;
    done.map_err(|error| (status_of(&error), format!("{error:#}")))
}

#[test]
fn lines_are_shown_but_no_secrets_and_not_thousands() {
    let of = |text: &str| {
        let kinds = [
            ("haproxy.cfg", Grammar::Haproxy),
            ("nginx.conf", Grammar::Nginx),
            ("keys", Grammar::Map),
        ];
        let files = kinds.map(|(name, grammar)| {
            let file = File {
                content: text.into(),
                grammar,
                is_private: true,
            };
            (name.to_owned(), Arc::new(file))
        });
        Rendered {
            files: files.into(),
            ..Rendered::default()
        }
    };
    let (old, new) = (of("a\nb\n"), of("a\nuser u password h\n"));
    let shown = "  a\n- b\n+ user u password …\n";
    assert_eq!(differing(&old, &new, "haproxy.cfg"), shown);
    assert_eq!(differing(&old, &new, "keys"), "");
    let key = "  secure_link d;\n  secure_link_md5 \"s$http_x\";\n  if ($secure_link != 1) { return 403; }\n";
    let shown = "- a\n- b\n+   secure_link …\n+   secure_link_md5 …\n+   if ($secure_link != 1) { return 403; }\n";
    assert_eq!(differing(&old, &of(key), "nginx.conf"), shown);
    let shown = beginning(&"+ x\n".repeat(1000));
    assert_eq!(shown.lines().count(), 61);
    assert!(shown.ends_with("and 940 lines more: --output json has them all\n"));
}

/// What going from one text of manifests to another needs of HAProxy.
fn needed(old: &str, new: &str) -> Needed {
    let directory = tempfile::tempdir().unwrap();
    let settings = config::parse(&format!(
        "[cluster]\nmanifests = '/nowhere'\n[ingress]\nclass = 'edge'\n[haproxy]\ndirectory = '{}'\n",
        directory.path().display()
    ));
    let settings = settings.unwrap();
    let target = targets(&settings).unwrap().remove(0);
    let rendered = |yaml: &str| {
        let plan = compile(&crate::edge::tests::cluster(yaml), &settings.edge);
        assert_eq!(plan.problems.len(), 0, "{:?}", plan.problems);
        let (rendered, _) = target.renderer.render(&plan).unwrap();
        (rendered, plan)
    };
    let (known, (next, plan)) = (rendered(old).0, rendered(new));
    changed(&target, &known, &next, &plan)
}

fn shop(secret: &str, address: &str, more: &str) -> String {
    let paths = "http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}]}";
    format!(
        "
apiVersion: v1
kind: Service
metadata: {{namespace: shop, name: web}}
spec: {{clusterIP: 10.96.0.1, ports: [{{name: http, port: 80}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{namespace: shop, name: web-1, labels: {{kubernetes.io/service-name: web}}}}
addressType: IPv4
ports: [{{name: http, port: 8080}}]
endpoints: [{{addresses: [{address}]}}]
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{namespace: shop, name: web, annotations: {{{more}}}}}
spec:
  ingressClassName: edge
  tls: [{{hosts: [a.example], secretName: first}}, {{hosts: [shop.example], secretName: tls}}]
  rules: [{{host: a.example, {paths}}}, {{host: shop.example, {paths}}}]
---
{secret}"
    )
}

fn tls_secret(name: &str) -> String {
    let made = rcgen::generate_simple_self_signed(vec!["shop.example".to_owned()]).unwrap();
    let indented = |pem: String| pem.replace('\n', "\n    ");
    format!(
        "apiVersion: v1\nkind: Secret\ntype: kubernetes.io/tls\nmetadata: {{namespace: shop, name: {name}}}\n\
         stringData:\n  tls.crt: |\n    {}\n  tls.key: |\n    {}\n",
        indented(made.cert.pem()),
        indented(made.signing_key.serialize_pem())
    )
}

#[test]
fn runtime_commands_are_listed_and_certificates_are_not_shown() {
    let first = tls_secret("first") + "---\n";
    let (old, new) = (tls_secret("tls"), tls_secret("tls"));
    let (old, new) = (first.clone() + &old, first + &new);
    let what = needed(&shop(&old, "10.0.0.1", ""), &shop(&new, "10.0.0.2", ""));
    assert!(!what.is_reload && what.causes.is_empty(), "{what:?}");
    let text = what.listed();
    for part in [
        "  runtime commands\n",
        "add server ",
        " 10.0.0.2:8080",
        "state maint",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(
        text.contains("new ssl cert ") && text.contains("<< (sha256 "),
        "{text}"
    );
    assert!(!text.contains("-----"), "{text}");
    assert!(what.sentence.starts_with("no reload: "), "{what:?}");
}

#[test]
fn what_needs_a_reload_is_told_with_the_object_that_asks_for_it() {
    let secret = tls_secret("first") + "---\n" + &tls_secret("tls");
    let before = shop(&secret, "10.0.0.1", "");
    let asked = r#"nginx.ingress.kubernetes.io/load-balance: least_conn"#;
    let what = needed(&before, &shop(&secret, "10.0.0.1", asked));
    assert!(what.is_reload && what.commands.is_empty(), "{what:?}");
    assert!(
        what.sentence.starts_with("a reload, because of backend "),
        "{what:?}"
    );
    let text = what.listed();
    assert!(
        text.contains("  causes\n") && text.contains("asked for by Ingress shop/web"),
        "{text}"
    );
    assert_eq!(needed(&before, &before).sentence, "nothing changes");
}

#[tokio::test]
async fn a_saved_plan_is_applied_as_long_as_nothing_moved() {
    let edge = edge();
    let at = |name: &str| edge.path().join(name);
    typed(edge.path(), &["plan", "--save", "PLAN"])
        .await
        .unwrap();
    let saved = fs::read_to_string(at("p.json")).unwrap();
    assert!(saved.contains("all of it is new"), "{saved}");
    assert!(!at("out").exists());
    typed(edge.path(), &["apply", "--plan", "PLAN"])
        .await
        .unwrap();
    let live = fs::read_to_string(at("out")).unwrap();
    assert!(live.contains("shop.example"), "{live}");
    // The files are not what they were when the plan was made.
    let again = typed(edge.path(), &["apply", "--plan", "PLAN"]).await;
    let (status, why) = again.unwrap_err();
    assert_eq!(status, 3);
    assert!(why.contains("the files of output"), "{why}");
}

#[tokio::test]
async fn a_saved_plan_is_refused_when_the_cluster_or_the_configuration_moved() {
    let edge = edge();
    let at = |name: &str| edge.path().join(name);
    typed(edge.path(), &["plan", "--save", "PLAN"])
        .await
        .unwrap();
    let moved = SERVICE.replace("shop.example", "other.example");
    fs::write(at("m/web.yaml"), moved).unwrap();
    let (status, why) = typed(edge.path(), &["apply", "--plan", "PLAN"])
        .await
        .unwrap_err();
    assert_eq!(status, 3);
    assert!(why.contains("the cluster"), "{why}");
    assert!(!at("out").exists());
    // An object that no convention reads is none of the plan's business.
    fs::write(at("m/web.yaml"), SERVICE).unwrap();
    let other = SERVICE.replace("name: web", "name: other");
    let other = other.replace("{domain: shop.example, proto: http}", "{}");
    fs::write(at("m/other.yaml"), other).unwrap();
    let config = fs::read_to_string(at("c.toml")).unwrap();
    fs::write(
        at("c.toml"),
        format!("{config}[apply]\nmax_shrink_percent = 51\n"),
    )
    .unwrap();
    let (status, why) = typed(edge.path(), &["apply", "--plan", "PLAN"])
        .await
        .unwrap_err();
    assert_eq!(status, 3);
    assert!(why.contains("the configuration"), "{why}");
    fs::write(at("c.toml"), config).unwrap();
    typed(edge.path(), &["apply", "--plan", "PLAN"])
        .await
        .unwrap();
    // A plan that cannot be read is a mistake, and no move.
    fs::write(at("p.json"), "{}").unwrap();
    let (status, why) = typed(edge.path(), &["apply", "--plan", "PLAN"])
        .await
        .unwrap_err();
    assert_eq!(status, 1);
    assert!(why.contains("p.json"), "{why}");
}
