//! Which rules of a host may take a request, by its path, as both proxies look them up.
//!
//! Rules are an ordered list; proxies look a path up in a table and take the longest match. Both
//! give the same answer once each path of the table knows every rule that may take a request whose
//! longest match it is, in the list's order, up to the first that takes all of them.

use std::collections::{BTreeMap, HashMap};

use model::Problem;

use crate::edge::value::{PathMatch, UrlPath};
use crate::edge::{HttpRule, VirtualHost};

/// A host's rules as tables of paths. Paths are decoded (`%41` is `A`), as requests' are.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Routes {
    /// By the whole path.
    pub(crate) exact: BTreeMap<String, Candidates>,
    /// By the longest beginning, by bytes.
    pub(crate) prefix: BTreeMap<String, Candidates>,
    /// Where neither table has the path.
    pub(crate) otherwise: Candidates,
}

/// Rules that may take a request, by index, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Candidates {
    /// Those that look at more than the table does: each is asked in turn.
    pub(crate) conditional: Vec<usize>,
    /// The one that takes whatever is left.
    pub(crate) rest: Option<usize>,
}

/// What one rule's path is in the tables.
enum Paths {
    Table {
        exact: Option<String>,
        prefix: Option<String>,
    },
    /// An expression: every entry of the table may be among its paths.
    Anywhere,
}

impl Routes {
    /// The tables of a host; a rule whose path no table can carry is left out and told.
    pub(crate) fn of(host: &VirtualHost, problems: &mut Vec<Problem>) -> Self {
        let mut rules = Vec::with_capacity(host.rules.len());
        for (index, rule) in host.rules.iter().enumerate() {
            match Paths::of(&rule.matches.path) {
                Ok(paths) => rules.push((index, paths, is_conditional(rule))),
                Err(escape) => problems.push(Problem::new(
                    rule.origin.kind,
                    rule.origin.key.clone(),
                    &*rule.origin.field,
                    format!("the path has {escape}, which no proxy's table carries"),
                    "the rule is left out",
                )),
            }
        }
        let asked = Asked::of(&rules);
        let mut routes = Self {
            otherwise: asked.at(None, None),
            ..Self::default()
        };
        for (_, paths, _) in &rules {
            let Paths::Table { exact, prefix } = paths else {
                continue;
            };
            if let Some(path) = exact {
                routes.add_exact(path, &asked);
            }
            if let Some(prefix) = prefix {
                let candidates = asked.at(None, Some(prefix));
                routes.prefix.insert(prefix.clone(), candidates);
                // nginx redirects `/a` to `/a/` of its own accord where only the latter is known.
                let parent = prefix.strip_suffix('/').filter(|parent| !parent.is_empty());
                if let Some(parent) = parent {
                    routes.add_exact(parent, &asked);
                }
            }
        }
        routes
    }

    fn add_exact(&mut self, path: &str, asked: &Asked<'_>) {
        if !self.exact.contains_key(path) {
            self.exact
                .insert(path.to_owned(), asked.at(Some(path), Some(path)));
        }
    }
}

/// Whether a rule looks at more than a table of paths does.
pub(crate) fn is_conditional(rule: &HttpRule) -> bool {
    let matches = &rule.matches;
    matches.method.is_some()
        || !matches.headers.is_empty()
        || !matches.query.is_empty()
        || matches!(matches.path, PathMatch::Regex(_))
}

impl Paths {
    fn of(path: &PathMatch) -> Result<Self, String> {
        Ok(match path {
            PathMatch::Exact(path) => Self::Table {
                exact: Some(decoded(path)?),
                prefix: None,
            },
            PathMatch::Bytes(path) => Self::Table {
                exact: None,
                prefix: Some(decoded(path)?),
            },
            PathMatch::Prefix(path) => {
                let path = decoded(path)?;
                let bare = path.trim_end_matches('/');
                Self::Table {
                    exact: (!bare.is_empty()).then(|| bare.to_owned()),
                    prefix: Some(format!("{bare}/")),
                }
            }
            PathMatch::Regex(_) => Self::Anywhere,
        })
    }
}

/// A path as a request's is compared: decoded. The error is the escape that has no place in a
/// table's line.
fn decoded(path: &UrlPath) -> Result<String, String> {
    let text = path.as_str();
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.split('%');
    bytes.extend_from_slice(rest.next().unwrap_or_default().as_bytes());
    for part in rest {
        let escape = part.get(..2).unwrap_or_default();
        let byte = u8::from_str_radix(escape, 16).unwrap_or_default();
        if !(byte.is_ascii_graphic() || byte >= 0x80) {
            return Err(format!("%{escape}"));
        }
        bytes.push(byte);
        bytes.extend_from_slice(part.get(2..).unwrap_or_default().as_bytes());
    }
    let is_utf8 = |_| "bytes that are not UTF-8".to_owned();
    let decoded = String::from_utf8(bytes).map_err(is_utf8)?;
    match decoded.chars().any(char::is_control) {
        true => Err("a control character".to_owned()),
        false => Ok(decoded),
    }
}

/// The rules, as [`Asked::at`] needs them: a lookup of each beginning, not of each rule.
struct Asked<'a> {
    first_exact: HashMap<&'a str, usize>,
    first_prefix: HashMap<&'a str, usize>,
    conditional: Vec<(usize, &'a Paths)>,
}

impl<'a> Asked<'a> {
    fn of(rules: &'a [(usize, Paths, bool)]) -> Self {
        let mut asked = Self {
            first_exact: HashMap::new(),
            first_prefix: HashMap::new(),
            conditional: Vec::new(),
        };
        for (index, paths, is_conditional) in rules {
            match paths {
                _ if *is_conditional => asked.conditional.push((*index, paths)),
                Paths::Table { exact, prefix } => {
                    if let Some(exact) = exact {
                        asked.first_exact.entry(exact).or_insert(*index);
                    }
                    if let Some(prefix) = prefix {
                        asked.first_prefix.entry(prefix).or_insert(*index);
                    }
                }
                Paths::Anywhere => {}
            }
        }
        asked
    }

    /// Who may take a request at `exact`, or below `prefix`.
    fn at(&self, exact: Option<&str>, prefix: Option<&str>) -> Candidates {
        let by_exact = exact.and_then(|path| self.first_exact.get(path));
        let by_prefix = prefix.into_iter().flat_map(|path| {
            path.char_indices()
                .filter_map(|(at, c)| path.get(..at + c.len_utf8()))
                .filter_map(|start| self.first_prefix.get(start))
        });
        let rest = by_exact.into_iter().chain(by_prefix).min().copied();
        let may_take = |paths: &Paths| match paths {
            Paths::Anywhere => true,
            Paths::Table {
                exact: of_rule,
                prefix: beginning,
            } => {
                (exact.is_some() && exact == of_rule.as_deref())
                    || beginning
                        .as_deref()
                        .zip(prefix)
                        .is_some_and(|(beginning, path)| path.starts_with(beginning))
            }
        };
        let conditional = self.conditional.iter();
        Candidates {
            conditional: conditional
                .filter(|(index, paths)| rest.is_none_or(|rest| *index < rest) && may_take(paths))
                .map(|(index, _)| *index)
                .collect(),
            rest,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Candidates, Routes, is_conditional};
    use crate::edge::value::{Method, PathMatch, PathRegex, UrlPath};
    use crate::edge::{RequestMatch, VirtualHost};
    use crate::samples;

    fn host(rules: &[(PathMatch, bool)]) -> VirtualHost {
        VirtualHost {
            rules: rules
                .iter()
                .enumerate()
                .map(|(index, (path, only_get))| {
                    let mut matches = RequestMatch::path(path.clone());
                    matches.method = only_get.then(|| Method::parse("GET").expect("a method"));
                    samples::rule(&format!("r{index}"), matches)
                })
                .collect(),
            ..VirtualHost::default()
        }
    }

    /// What a proxy does with the tables.
    fn look_up(host: &VirtualHost, routes: &Routes, path: &str, is_get: bool) -> Option<usize> {
        let longest = || {
            let taking = routes
                .prefix
                .iter()
                .filter(|(key, _)| path.starts_with(key.as_str()));
            taking
                .max_by_key(|(key, _)| key.len())
                .map(|(_, found)| found)
        };
        let Candidates { conditional, rest } = routes
            .exact
            .get(path)
            .or_else(longest)
            .unwrap_or(&routes.otherwise);
        let holds = |index: &&usize| {
            let matches = &host.rules[**index].matches;
            let regex = matches!(matches.path, PathMatch::Regex(_));
            (is_get || matches.method.is_none()) && (!regex || matches.path.takes(path))
        };
        conditional.iter().find(holds).or(rest.as_ref()).copied()
    }

    fn path() -> impl Strategy<Value = String> {
        proptest::collection::vec(prop_oneof!["a", "b", "ab", ""], 0..4)
            .prop_map(|parts| format!("/{}", parts.join("/")))
    }

    fn path_match() -> impl Strategy<Value = PathMatch> {
        (0..4, path()).prop_map(|(kind, text)| {
            let path = UrlPath::parse(&text).expect("a path");
            match kind {
                0 => PathMatch::Exact(path),
                1 => PathMatch::Bytes(path),
                2 => PathMatch::Prefix(path),
                _ => PathMatch::Regex(PathRegex::parse(&format!("{text}.")).expect("a regex")),
            }
        })
    }

    proptest! {
        /// The tables answer as the ordered list does.
        #[test]
        fn tables_give_the_first_rule_that_takes_the_request(
            rules in proptest::collection::vec((path_match(), any::<bool>()), 0..7),
            asked in path(),
            is_get in any::<bool>(),
        ) {
            let host = host(&rules);
            let routes = Routes::of(&host, &mut Vec::new());
            let first = host.rules.iter().position(|rule| {
                rule.matches.path.takes(&asked) && (is_get || rule.matches.method.is_none())
            });
            prop_assert_eq!(look_up(&host, &routes, &asked, is_get), first, "{:?}", routes);
        }
    }

    #[test]
    fn escapes_are_decoded_and_blanks_left_out() {
        let path = |text| PathMatch::Exact(UrlPath::parse(text).expect("a path"));
        let host = host(&[(path("/%41"), false), (path("/a%20b"), false)]);
        let mut problems = Vec::new();
        let routes = Routes::of(&host, &mut problems);
        assert_eq!(routes.exact.keys().collect::<Vec<_>>(), ["/A"]);
        assert_eq!(problems.len(), 1);
        assert!(!is_conditional(&host.rules[0]));
    }
}
