//! Label selectors as text, as `kubectl get --selector` takes them.
//! <https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#label-selectors>

use std::sync::Arc;

use crate::{LabelSelector, Requirement};

impl LabelSelector {
    /// Reads `a=b`, `a==b`, `a!=b`, `a in (b,c)`, `a notin (b,c)`, `a` and `!a`, separated by commas.
    ///
    /// # Errors
    /// What is wrong, in words that follow the field's name.
    pub fn parse(text: &str) -> Result<Self, String> {
        let requirements = parts(text)
            .into_iter()
            .map(|part| requirement(part).map_err(|what| format!("is {text:?}: {what}")));
        Ok(Self {
            requirements: requirements.collect::<Result<_, _>>()?,
        })
    }
}

/// The parts between commas; those within parentheses are none.
fn parts(text: &str) -> Vec<&str> {
    let mut depth = 0_usize;
    let parts = text.split(|c| {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == ',' && depth == 0
    });
    parts.map(str::trim).collect()
}

fn requirement(part: &str) -> Result<Requirement, String> {
    if let Some(list) = part.strip_suffix(')') {
        let (of, list) = list
            .split_once('(')
            .ok_or_else(|| format!("{part:?} has no opening parenthesis"))?;
        let (of, operator) = of
            .trim()
            .rsplit_once([' ', '\t'])
            .ok_or_else(|| format!("{part:?} is not KEY in (VALUES)"))?;
        let values = list.split(',').map(|value| self::value(value.trim()));
        let values = values.collect::<Result<Vec<_>, _>>()?;
        return match operator {
            "in" => Ok(Requirement::In(key(of)?, values)),
            "notin" => Ok(Requirement::NotIn(key(of)?, values)),
            other => Err(format!("{other:?} is neither in nor notin")),
        };
    }
    if let Some((of, is)) = part.split_once("!=") {
        return Ok(Requirement::NotIn(key(of)?, vec![value(is.trim())?]));
    }
    if let Some((of, is)) = part.split_once('=') {
        let is = is.strip_prefix('=').unwrap_or(is);
        return Ok(Requirement::In(key(of)?, vec![value(is.trim())?]));
    }
    match part.strip_prefix('!') {
        Some(of) => Ok(Requirement::DoesNotExist(key(of)?)),
        None => Ok(Requirement::Exists(key(part)?)),
    }
}

fn key(text: &str) -> Result<Arc<str>, String> {
    let text = text.trim();
    let (prefix, name) = text.rsplit_once('/').unwrap_or(("", text));
    let is_prefix =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-".contains(&byte);
    if is_name(name) && prefix.bytes().all(is_prefix) && !text.starts_with('/') {
        Ok(text.into())
    } else {
        Err(format!("{text:?} is no label's key"))
    }
}

fn value(text: &str) -> Result<Arc<str>, String> {
    if text.is_empty() || is_name(text) {
        Ok(text.into())
    } else {
        Err(format!("{text:?} is no label's value"))
    }
}

/// What both a key's last part and a value are.
fn is_name(text: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let is_end = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
    text.len() <= 63
        && text.bytes().all(is_inner)
        && is_end(text.bytes().next())
        && is_end(text.bytes().last())
}

#[cfg(test)]
mod tests {
    use crate::{LabelSelector, Labels};

    #[track_caller]
    fn check(text: &str, selected: &[&str]) {
        let objects = [
            "",
            "tier=web",
            "tier=db",
            "tier=web,old=",
            "a.b/tier=web,old=yes",
        ];
        let selector = LabelSelector::parse(text).unwrap();
        let found: Vec<&str> = objects
            .into_iter()
            .filter(|labels| {
                let pairs = labels.split(',').filter_map(|pair| pair.split_once('='));
                let labels: Labels = pairs.map(|(key, is)| (key.into(), is.into())).collect();
                selector.selects(&labels)
            })
            .collect();
        assert_eq!(found, selected, "{text}");
    }

    #[test]
    fn every_form_selects_as_kubernetes_does() {
        check("tier=web", &["tier=web", "tier=web,old="]);
        check("tier == web", &["tier=web", "tier=web,old="]);
        check("tier!=web", &["", "tier=db", "a.b/tier=web,old=yes"]);
        check(
            "tier in (web, db)",
            &["tier=web", "tier=db", "tier=web,old="],
        );
        check("tier notin (web,db)", &["", "a.b/tier=web,old=yes"]);
        check("tier", &["tier=web", "tier=db", "tier=web,old="]);
        check("!tier", &["", "a.b/tier=web,old=yes"]);
        check("tier in (web,db),!old", &["tier=web", "tier=db"]);
        check("old=,tier", &["tier=web,old="]);
        check("a.b/tier=web", &["a.b/tier=web,old=yes"]);
    }

    #[test]
    fn what_is_no_selector_is_refused() {
        for text in [
            "", "a,", "a=b c", "a in web", "a in (b", "in (b)", "a of (b)", "a>1", "a=b=c", "/a=b",
            "a={b}", "!",
        ] {
            assert!(LabelSelector::parse(text).is_err(), "{text}");
        }
        let what = LabelSelector::parse("a=b,c of (d)").unwrap_err();
        assert_eq!(what, r#"is "a=b,c of (d)": "of" is neither in nor notin"#);
    }
}
