//! Who is let in.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

use crate::edge::value::{ApiKey, Id};
use crate::edge::{Access, HttpRule};
use crate::nginx::lower::Lowering;
use crate::nginx::lower::conditions::header_variable;
use crate::nginx::view::{Body, KeyCheck, Sources};
use crate::render::sha256_hex;

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
        if let Some((header, key)) = api_key {
            match (header_variable(header), key) {
                (Ok(source), Some(key)) => body.key = Some(check(source, key)),
                (Ok(_), None) => body.is_closed = true,
                (Err(message), _) => {
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

/// `secure_link` compares the MD5 of a text with what is written: neither does the file hold the key,
/// nor does the time of an answer tell how much of it is right. Nobody can make a text for a given MD5,
/// and what is hashed begins with what only those know who have the key.
fn check(source: String, key: &ApiKey) -> KeyCheck {
    let mut salt = sha256_hex(key.reveal());
    salt.truncate(32);
    let digest = md5::compute([salt.as_bytes(), key.reveal()].concat());
    KeyCheck {
        source,
        digest: BASE64_URL_SAFE_NO_PAD.encode(*digest),
        salt,
    }
}
