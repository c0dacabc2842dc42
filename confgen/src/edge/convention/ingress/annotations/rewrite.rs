//! `rewrite-target`, in the forms that people use.

use crate::edge::plan::PathRewrite;
use crate::edge::value::UrlPath;

/// A rewrite, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Rewrite {
    /// Every path becomes this one.
    Full(UrlPath),
    /// `/target/$2` beside a path `/prefix(/|$)(.*)`: the prefix becomes the target.
    Prefix(UrlPath),
}

impl Rewrite {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (target, is_prefix) = match text.strip_suffix("$2").or_else(|| text.strip_suffix("$1"))
        {
            Some(target) => (target, true),
            None => (text, false),
        };
        let target = if target.len() > 1 && is_prefix {
            target.trim_end_matches('/')
        } else {
            target
        };
        let path = UrlPath::parse(if target.is_empty() { "/" } else { target });
        let path = path.map_err(|_| {
            format!("is {text:?}; a path, or a path before $1 or $2 at its end, can be translated")
        })?;
        Ok(if is_prefix {
            Self::Prefix(path)
        } else {
            Self::Full(path)
        })
    }

    /// For one of the Ingress's paths.
    pub(super) fn of(&self, path: &str) -> Option<PathRewrite> {
        match self {
            Self::Full(target) => Some(PathRewrite::Full(target.clone())),
            Self::Prefix(target) => prefix_of(path).map(|_| PathRewrite::Prefix(target.clone())),
        }
    }
}

/// The part of an expression before the groups that `$1` and `$2` are.
pub(in crate::edge::convention::ingress) fn prefix_of(path: &str) -> Option<UrlPath> {
    let bare = ["(/|$)(.*)", "/?(.*)", "/(.*)", "(.*)"];
    let prefix = bare.iter().find_map(|groups| path.strip_suffix(groups))?;
    UrlPath::parse(if prefix.is_empty() { "/" } else { prefix }).ok()
}
