//! Which family of distributions the machine belongs to, and what packages are called there.

/// Distributions that share their packages' names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Distribution {
    /// Debian and Ubuntu: the one that setup installs on.
    Debian,
    Fedora,
    Suse,
    Arch,
    Unknown,
}

/// What a package is called by each family.
#[derive(Clone, Copy, Debug)]
pub(super) struct Names {
    pub(super) debian: &'static str,
    pub(super) fedora: &'static str,
    pub(super) suse: &'static str,
    pub(super) arch: &'static str,
}

impl Distribution {
    /// Reads os-release(5): `ID`, then `ID_LIKE`, in which the closest relative comes first.
    pub(super) fn of_os_release(text: &str) -> Self {
        let value = |name: &str| {
            text.lines()
                .filter_map(|line| line.split_once('='))
                .find(|(key, _)| key.trim() == name)
                .map(|(_, value)| value.trim().trim_matches(['"', '\'']))
                .unwrap_or_default()
        };
        value("ID")
            .split_whitespace()
            .chain(value("ID_LIKE").split_whitespace())
            .find_map(|name| match name {
                "debian" | "ubuntu" => Some(Self::Debian),
                "fedora" | "rhel" | "centos" => Some(Self::Fedora),
                "suse" | "opensuse" => Some(Self::Suse),
                "arch" => Some(Self::Arch),
                _ => None,
            })
            .unwrap_or(Self::Unknown)
    }

    /// How packages are installed by hand, and the name of one; `None` where it is not known.
    pub(super) fn by_hand(self, names: &Names) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Debian => Some(("apt-get install", names.debian)),
            Self::Fedora => Some(("dnf install", names.fedora)),
            Self::Suse => Some(("zypper install", names.suse)),
            Self::Arch => Some(("pacman -S --needed", names.arch)),
            Self::Unknown => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Distribution;

    #[test]
    fn a_distribution_is_known_by_its_name_or_its_relatives() {
        for (text, expected) in [
            (
                "PRETTY_NAME=\"Debian 12\"\nID=debian\n",
                Distribution::Debian,
            ),
            ("ID=pop\nID_LIKE=\"ubuntu debian\"\n", Distribution::Debian),
            (
                "ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n",
                Distribution::Fedora,
            ),
            (
                "ID=\"opensuse-leap\"\nID_LIKE=\"suse opensuse\"\n",
                Distribution::Suse,
            ),
            ("ID='arch'\n", Distribution::Arch),
            ("VERSION_ID=debian\nID=void\n", Distribution::Unknown),
            ("", Distribution::Unknown),
        ] {
            assert_eq!(Distribution::of_os_release(text), expected, "{text}");
        }
    }
}
