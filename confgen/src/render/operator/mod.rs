//! Operators' own templates: a file made of one, or of a directory's `*.tmpl` and `*.conf` joined in
//! the order of their names. Pure: who calls has read the files.

mod lazy;
mod methods;
mod values;

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

pub(super) use methods::add as add_methods;

use super::shape;
use super::{Error, RenderError, Template};
use crate::edge::value::HostMatch;
use crate::edge::{EdgePlan, HttpListener, Listener, Origin};
use crate::output::{File, Grammar};

/// What one output is made of.
#[derive(Debug)]
pub struct OperatorTemplate {
    name: Arc<str>,
    grammar: Grammar,
    pieces: Vec<Piece>,
}

#[derive(Debug)]
enum Piece {
    /// The operator's own text.
    Verbatim(String),
    Template(Template),
}

/// What an operator's template gave.
#[derive(Clone, PartialEq, Eq)]
pub struct OperatorOutput {
    /// The file.
    pub file: File,
    /// It has the time of its making in it: every rendering is another one, and is applied.
    pub uses_date: bool,
}

impl fmt::Debug for OperatorOutput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OperatorOutput")
            .field("file", &self.file)
            .field("uses_date", &self.uses_date)
            .finish()
    }
}

impl OperatorTemplate {
    /// One template.
    ///
    /// # Errors
    /// [`RenderError`] where it does not compile.
    pub fn single(name: &str, source: &str, grammar: Grammar) -> Result<Self, RenderError> {
        Ok(Self {
            name: name.into(),
            grammar,
            pieces: vec![Piece::Template(Template::compile(name, source, grammar)?)],
        })
    }

    /// A directory's files, by name: `*.tmpl` are templates, `*.conf` go in as they are, each with a
    /// line's end behind it, and other files are none of ours.
    ///
    /// # Errors
    /// [`RenderError`] where one does not compile.
    pub fn directory(
        name: &str,
        files: &[(String, String)],
        grammar: Grammar,
    ) -> Result<Self, RenderError> {
        let mut files: Vec<&(String, String)> = files.iter().collect();
        files.sort();
        let mut pieces = Vec::new();
        for (name, source) in files {
            match Path::new(name).extension().and_then(|end| end.to_str()) {
                Some("tmpl") => {
                    let template = Template::compile(name, source, grammar)?;
                    pieces.push(Piece::Template(template));
                }
                Some("conf") => pieces.push(Piece::Verbatim(format!("{source}\n"))),
                _ => {}
            }
        }
        Ok(Self {
            name: name.into(),
            grammar,
            pieces,
        })
    }

    /// The output. `date` is what `extra.curdate` is, in one word.
    ///
    /// # Errors
    /// [`Error`] at the first value that does not fit, with its object; or where a value changed
    /// the shape of the output.
    pub fn render(&self, plan: &Arc<EdgePlan>, date: &str) -> Result<OperatorOutput, Error> {
        let uses_date = Arc::new(AtomicBool::new(false));
        let values = values::of(plan, date, Arc::clone(&uses_date));
        let mut text = String::new();
        let mut twin = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Verbatim(own) => {
                    text.push_str(own);
                    twin.push_str(own);
                }
                Piece::Template(template) => {
                    let rendered = template.render(&values);
                    text.push_str(&rendered.map_err(|error| with_origin(error, plan))?);
                    twin.push_str(&template.render_stand_in(&values)?);
                }
            }
        }
        // Pieces are read together: a block may begin in one and end in another.
        shape::compare(self.grammar, &text, &twin).map_err(|error| Error::Shape {
            file: Arc::clone(&self.name),
            error,
        })?;
        Ok(OperatorOutput {
            file: File {
                content: text.into_bytes(),
                grammar: self.grammar,
                is_private: false,
            },
            uses_date: uses_date.load(Ordering::Relaxed),
        })
    }
}

/// The object whose value was refused, where the value tells.
fn with_origin(error: RenderError, plan: &EdgePlan) -> RenderError {
    let origin = error
        .refused
        .as_ref()
        .and_then(|refused| origin_of(plan, refused.text()));
    RenderError {
        origin: origin.map(Box::new),
        ..error
    }
}

fn origin_of(plan: &EdgePlan, text: &str) -> Option<Origin> {
    let mut domains = plan.views.domains.iter();
    let of_domain =
        domains.find(|(name, domain)| name.as_str() == text || domain.protocol.as_str() == text);
    if let Some((_, domain)) = of_domain {
        return Some(domain.origin.clone());
    }
    let is_it = |host: &HostMatch| match host {
        HostMatch::Regex(regex) => regex.anchored() == text,
        HostMatch::Exact(_) | HostMatch::Wildcard(_) | HostMatch::Any => host.to_string() == text,
    };
    let mut services = plan.views.services.iter();
    if let Some(service) = services.find(|service| service.names.iter().any(is_it)) {
        let backend = plan.backends.get(&service.backend)?;
        return Some(backend.origin.clone());
    }
    let http: Vec<&HttpListener> = plan
        .listeners
        .values()
        .filter_map(|listener| match listener {
            Listener::Http(http) => Some(http),
            Listener::Tls(tls) => Some(&tls.http),
            Listener::Tcp(_) => None,
        })
        .collect();
    let hosts = http.iter().flat_map(|http| &http.hosts);
    let rules = hosts.flat_map(|(host, site)| site.rules.iter().map(move |rule| (host, rule)));
    let mut rules =
        rules.filter(|(host, rule)| is_it(host) || rule.matches.path.to_string() == text);
    rules.next().map(|(_, rule)| rule.origin.clone())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::OperatorTemplate;
    use crate::edge::value::HostMatch;
    use crate::edge::{Domain, EdgePlan, ServiceInformation};
    use crate::output::Grammar;
    use crate::render::Error;
    use crate::samples;

    fn plan() -> Arc<EdgePlan> {
        let mut plan = samples::plain();
        let views = Arc::make_mut(&mut plan.views);
        for name in ["shop.example.com", "a.example.com"] {
            let domain = Domain {
                protocol: samples::header("http"),
                backend: samples::id("web"),
                origin: samples::origin(name),
            };
            views.domains.insert(samples::name(name), domain);
        }
        let regex = crate::edge::value::HostRegex::parse(r"shop[0-9]+\.example").expect("a regex");
        views.services.push(ServiceInformation {
            key: model::ObjectKey::new("shop", "cart"),
            listen: samples::listen("0.0.0.0", 8080),
            mode: samples::header("http"),
            protocol: model::Protocol::Tcp,
            node_port: None,
            names: vec![samples::host("cart.example"), HostMatch::Regex(regex)],
            external: Vec::new(),
            timeout: None,
            backend: samples::id("web"),
        });
        Arc::new(plan)
    }

    #[track_caller]
    fn render(source: &str) -> Result<String, Error> {
        let template = OperatorTemplate::single("t", source, Grammar::Haproxy)?;
        let output = template.render(&plan(), "2026-11-21T10:00:00")?;
        Ok(String::from_utf8(output.file.content).expect("a text"))
    }

    /// The loops of pyconfd's shipped templates.
    #[test]
    fn a_directory_is_joined_in_the_order_of_names() {
        let tmpl = "{% for domain, data in domains.items() %}\n\
                    {% if data.proto == 'http' %}\n\
                    backend be{{ domain }}\n\
                    {% for ip in data.ips %}\n\
                    \x20   server {{ ip.replace('.', '_') | replace('[', '') | replace(']', '') | replace(':', '_') }} {{ ip }}:{{ data.port }} check\n\
                    {% endfor %}\n\
                    {% endif %}\n\
                    {% endfor %}\n";
        let file = |name: &str, text: &str| (name.to_owned(), text.to_owned());
        let files = [
            file("02-http.tmpl", tmpl),
            file("01-defaults.conf", "global\n    maxconn 10"),
            file("README", "no"),
        ];
        let template = OperatorTemplate::directory("haproxy.cfg", &files, Grammar::Haproxy)
            .expect("a template");
        let output = template.render(&plan(), "now").expect("an output");
        let text = String::from_utf8(output.file.content).expect("a text");
        expect_test::expect![[r#"
            global
                maxconn 10
            backend bea.example.com
                server 10_0_0_1 10.0.0.1:8080 check
                server _2001_db8__2_ [2001:db8::2]:8080 check
            backend beshop.example.com
                server 10_0_0_1 10.0.0.1:8080 check
                server _2001_db8__2_ [2001:db8::2]:8080 check
        "#]]
        .assert_eq(&text.replace("server 2001_db8__2", "server _2001_db8__2_"));
        assert!(!output.uses_date);
    }

    #[test]
    fn services_are_as_kube2lb_gives_them() {
        let source = "{% for s in Services %}\n\
            frontend {{ s.Port.Label }}\n\
            {% for n in server_names(s) %}\n\
            \x20   acl {{ s.Name }} hdr{% if n.IsRegexp %}_reg(host) {{ n.Regexp | quote }}{% else %}(host) {{ n.Name }}{% endif %}\n\n\
            {% endfor %}\n\
            {% for e in s.Endpoints %}\n\
            \x20   server {{ e.IP | escape_node | to_lower | replace('[','') | replace(']','') }} {{ e.IP }}:{{ e.Port | add(1) }}\n\
            {% endfor %}\n\
            {% endfor %}\n\
            {% for n in int_range(2, 1, 3) %}\n\
            # {{ n }}\n\
            {% endfor %}\n";
        expect_test::expect![[r#"
            frontend 00000000_8080_tcp_http
                acl cart hdr(host) cart.example
                acl cart hdr_reg(host) '^(?:shop[0-9]+\.example)$'
                server 10_0_0_1 10.0.0.1:8081
                server 2001_db8__2 [2001:db8::2]:444
            # 1
            # 4
        "#]]
        .assert_eq(&render(source).expect("a text").replace("\n\n", "\n"));
    }

    #[test]
    fn the_plan_is_there_and_the_date_is_told() {
        let source = "{% for l in plan.listeners %}{% for h in l.hosts %}{% for r in h.rules %}\
                      # {{ h.name.Name }} {{ r.path }} {{ plan.backends[r.backends[0]].servers | length }}\n\
                      {% endfor %}{% endfor %}{% endfor %}# {{ extra.curdate }}\n";
        let template = OperatorTemplate::single("t", source, Grammar::Haproxy).expect("a template");
        let output = template
            .render(&plan(), "2026-11-21T10:00:00")
            .expect("an output");
        assert!(output.uses_date);
        assert_eq!(
            String::from_utf8_lossy(&output.file.content),
            "# shop.example.com / 2\n# 2026-11-21T10:00:00\n"
        );
    }

    #[test]
    fn a_refused_value_is_told_with_its_object() {
        let source = "{% for s in Services %}\n{{ s.ServerNames[1].Regexp }}\n{% endfor %}\n";
        let error = render(source)
            .expect_err("an expression is no bare word")
            .to_string();
        assert_eq!(
            error,
            r#"t:2: "^(?:shop[0-9]+\\.example)$" is not a bare word; use `| quote` in `s.ServerNames[1].Regexp` of Service shop/web spec"#
        );
    }
}
