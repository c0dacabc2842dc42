//! `[[templates]]` and `[apply]`.

use super::{Checked, Mistake};
use crate::config::outputs::{Apply, Template};
use crate::output::Grammar;

pub(super) fn templates(of: &[Template]) -> Checked<Vec<(Template, Grammar)>> {
    let each = of.iter().enumerate();
    each.map(|(index, template)| {
        let key = |name: &str| format!("templates[{index}].{name}");
        let grammar = match template.grammar.as_str() {
            "haproxy" => Grammar::Haproxy,
            "nginx" => Grammar::Nginx,
            "keepalived" => Grammar::Keepalived,
            "map" => Grammar::Map,
            "json" => Grammar::Json,
            "plain" => Grammar::Plain,
            other => {
                let message =
                    format!("is {other:?}, not haproxy, nginx, keepalived, map, json or plain");
                return Err(Mistake::at(key("grammar"), message));
            }
        };
        if template.file.is_some() == template.directory.is_some() {
            let message = "and directory: exactly one of the two says where the template is";
            return Err(Mistake::at(key("file"), message));
        }
        if template.output.as_os_str().is_empty() {
            return Err(Mistake::at(
                key("output"),
                "is missing: the file that is written",
            ));
        }
        let mut others = of[..index].iter();
        if others.any(|other| other.output == template.output) {
            let message = format!("is {} a second time", template.output.display());
            return Err(Mistake::at(key("output"), message));
        }
        Ok((template.clone(), grammar))
    })
    .collect()
}

pub(super) fn apply(of: &Apply) -> Checked<Apply> {
    if of.max_wait.0 < of.quiet.0 {
        let message = format!("is {}, less than apply.quiet ({})", of.max_wait, of.quiet);
        return Err(Mistake::at("apply.max_wait", message));
    }
    if of.max_shrink_percent > 100 {
        return Err(Mistake::at("apply.max_shrink_percent", "is more than 100"));
    }
    if !matches!(of.drift.as_str(), "repair" | "report") {
        let message = format!("is {:?}, not repair or report", of.drift);
        return Err(Mistake::at("apply.drift", message));
    }
    Ok(of.clone())
}
