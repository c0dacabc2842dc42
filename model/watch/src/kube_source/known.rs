//! Which objects of a kind are known, at which version, and so whether an event is news.
//!
//! An API server sends the events of one kind in order and once. A proxy that replays, or a
//! server that resumes from a lagging cache, may not; then the versions tell.

use std::collections::BTreeMap;

use model::ObjectKey;

/// The objects in force. Versions are `None` where they are no numbers; then every event is news.
#[derive(Debug, Default)]
pub(super) struct Known {
    versions: BTreeMap<ObjectKey, Option<u64>>,
    newest: Option<u64>,
}

/// What to make of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// Hand it on.
    Fresh,
    /// The same or newer is known already.
    Stale,
    /// It is older than what was seen, and of an object not known: out of order, or of an object
    /// deleted meanwhile. Only a list can tell.
    Unclear,
}

impl Known {
    pub(super) fn count(&self) -> usize {
        self.versions.len()
    }

    /// Highest version seen of the kind.
    pub(super) fn newest(&self) -> Option<u64> {
        self.newest
    }

    /// A list was believed.
    pub(super) fn replace(&mut self, keys: Vec<(ObjectKey, Option<u64>)>, version: Option<u64>) {
        self.versions = keys.into_iter().collect();
        self.newest = version;
    }

    /// An object is new or changed.
    pub(super) fn applied(&mut self, key: &ObjectKey, version: Option<u64>) -> News {
        let news = match (self.versions.get(key), version) {
            (_, None) | (Some(None), _) => News::Fresh,
            (Some(Some(known)), Some(version)) if version <= *known => News::Stale,
            (Some(Some(_)), Some(_)) => News::Fresh,
            (None, Some(version)) if self.newest.is_some_and(|newest| version <= newest) => {
                News::Unclear
            }
            (None, Some(_)) => News::Fresh,
        };
        if news == News::Fresh {
            self.versions.insert(key.clone(), version);
            self.newest = self.newest.max(version);
        }
        news
    }

    /// An object is gone. Its last version is the version of the deletion, in old servers that of
    /// the last change.
    pub(super) fn deleted(&mut self, key: &ObjectKey, version: Option<u64>) -> News {
        match (self.versions.get(key), version) {
            (None, _) => return News::Stale,
            (Some(Some(known)), Some(version)) if version < *known => return News::Stale,
            _ => {}
        }
        self.versions.remove(key);
        self.newest = self.newest.max(version);
        News::Fresh
    }

    /// A bookmark: all up to `version` was sent.
    pub(super) fn bookmark(&mut self, version: Option<u64>) -> News {
        if version < self.newest && version.is_some() {
            return News::Unclear;
        }
        self.newest = self.newest.max(version);
        News::Fresh
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `+name@version` applied, `-name@version` deleted, `=version` bookmark, after a list at
    /// version 10 that held `a` at 5.
    #[track_caller]
    fn check(events: &str, expected: &str) {
        let mut known = Known::default();
        known.replace(vec![(ObjectKey::new("ns", "a"), Some(5))], Some(10));
        let news: Vec<_> = events
            .split_whitespace()
            .map(|event| {
                let (what, rest) = event.split_at(1);
                let (name, version) = rest.split_once('@').unwrap_or(("", rest));
                let (key, version) = (ObjectKey::new("ns", name), version.parse().ok());
                match what {
                    "+" => known.applied(&key, version),
                    "-" => known.deleted(&key, version),
                    _ => known.bookmark(version),
                }
            })
            .map(|news| format!("{news:?}"))
            .collect();
        assert_eq!(news.join(" "), expected, "{events}");
    }

    #[test]
    fn an_event_is_news_unless_the_same_or_newer_is_known() {
        check("+a@11 +b@12 -a@13", "Fresh Fresh Fresh");
        check("+a@11 +a@11", "Fresh Stale");
        check("+a@12 +a@11", "Fresh Stale");
        check("+a@5", "Stale");
        check("+a@12 +b@11", "Fresh Unclear");
        check("-a@12 +a@11", "Fresh Unclear");
        check("-a@12 -a@12", "Fresh Stale");
        check("-a@12 +a@13 -a@12", "Fresh Fresh Stale");
        check("-a@5", "Fresh");
        check("=15 +b@14", "Fresh Unclear");
        check("=9", "Unclear");
        check("+a@x +a@7", "Fresh Fresh");
    }
}
