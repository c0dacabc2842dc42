//! Which namespaces may have which hosts.

use super::EdgeConfig;
use super::value::HostMatch;

/// Whether the policy lets a namespace claim a host.
pub(super) fn allow(config: &EdgeConfig, namespace: &str, host: &HostMatch) -> bool {
    let Some(rules) = &config.host_claims else {
        return true;
    };
    let rule = rules.iter().find(|rule| fits(&rule.namespaces, namespace));
    rule.is_some_and(|rule| match host {
        HostMatch::Exact(name) | HostMatch::Wildcard(name) => {
            rule.allows_unbounded || rule.suffixes.iter().any(|suffix| name.is_within(suffix))
        }
        HostMatch::Regex(_) | HostMatch::Any => rule.allows_unbounded,
    })
}

/// Whether a name fits a pattern in which `*` stands for any run of characters.
fn fits(pattern: &str, name: &str) -> bool {
    let Some((before, after)) = pattern.split_once('*') else {
        return pattern == name;
    };
    let Some(rest) = name.strip_prefix(before) else {
        return false;
    };
    // The star takes as little as lets the rest fit.
    (0..=rest.len())
        .filter(|&taken| rest.is_char_boundary(taken))
        .any(|taken| fits(after, &rest[taken..]))
}

#[cfg(test)]
mod tests {
    use super::fits;

    #[test]
    fn a_star_takes_any_run() {
        for (pattern, name, expected) in [
            ("shop", "shop", true),
            ("shop", "shop2", false),
            ("shop-*", "shop-a", true),
            ("shop-*", "shop", false),
            ("*", "", true),
            ("*-prod", "a-b-prod", true),
            ("a*b*c", "axxbyyc", true),
            ("a*b*c", "axxc", false),
        ] {
            assert_eq!(fits(pattern, name), expected, "{pattern} {name}");
        }
    }
}
