//! Who is let in.

use crate::edge::value::Id;
use crate::edge::{Access, HttpRule};
use crate::nginx::lower::Lowering;
use crate::nginx::lower::conditions::header_variable;
use crate::nginx::view::{Body, Condition, Sources};

impl Lowering<'_> {
    pub(super) fn access(&mut self, access: &Access, rule: &HttpRule, body: &mut Body) {
        let Access {
            api_key,
            allowed_sources,
            denied_sources,
            basic_users,
        } = access;
        let mut sources = |networks: &[ipnet::IpNet]| {
            let networks: Vec<String> = networks.iter().map(ToString::to_string).collect();
            let name = Id::of(&["from", &networks.join(" ")]).to_string();
            let set = Sources {
                name: name.clone(),
                networks,
            };
            self.sources.insert(name.clone(), set);
            name
        };
        body.denied = (!denied_sources.is_empty()).then(|| sources(denied_sources));
        body.allowed = (!allowed_sources.is_empty()).then(|| sources(allowed_sources));
        if let Some((header, keys)) = api_key {
            let usable = |key: &&crate::edge::value::ApiKey| {
                std::str::from_utf8(key.reveal())
                    .is_ok_and(|text| !text.chars().any(char::is_control))
            };
            let patterns: Vec<String> = keys
                .iter()
                .filter(usable)
                .map(|key| {
                    format!(
                        "~^{}$",
                        regex::escape(&String::from_utf8_lossy(key.reveal()))
                    )
                })
                .collect();
            if patterns.len() < keys.len() {
                let message = "a key has bytes that no header has";
                self.problem(&rule.origin, message, "the key lets nobody in");
            }
            match header_variable(header) {
                Ok(source) if !patterns.is_empty() => {
                    let name = format!("key_{}", rule.id);
                    let condition = Condition {
                        name: name.clone(),
                        source,
                        patterns,
                        found: 1,
                        otherwise: 0,
                    };
                    self.conditions.insert(name.clone(), condition);
                    body.key = Some(name);
                }
                Ok(_) => body.is_closed = true,
                Err(message) => {
                    self.problem(&rule.origin, message, "nobody is let in");
                    body.is_closed = true;
                }
            }
        }
        if let Some(users) = basic_users {
            let is_name = |name: &str| !name.contains(':') && !name.starts_with('#');
            let lines: Vec<String> = users
                .iter()
                .filter(|(name, hash)| {
                    is_name(name.as_str()) && hash.as_str().starts_with(['$', '{'])
                })
                .map(|(name, hash)| format!("{}:{}", name.as_str(), hash.as_str()))
                .collect();
            if lines.len() < users.len() {
                let message = "the name or the hash of a user is none that nginx reads";
                self.problem(&rule.origin, message, "the user is not let in");
            }
            body.users = Some(self.files.add_list("users", &lines, true));
        }
    }
}
