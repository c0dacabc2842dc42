//! Versions of the CNI specification.

use std::fmt;

use serde::{Serialize, Serializer};

/// A version that is spoken here. The versions before had other results, and no runtime asks for
/// them any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// Without CHECK.
    V0_3_1,
    /// With CHECK.
    V0_4_0,
    /// Addresses do not say their family.
    V1_0_0,
    /// With GC and STATUS; interfaces say their MTU.
    V1_1_0,
}

impl Version {
    /// All, the oldest first.
    pub const ALL: [Self; 4] = [Self::V0_3_1, Self::V0_4_0, Self::V1_0_0, Self::V1_1_0];
    /// What is spoken where nothing else is asked for.
    pub const NEWEST: Self = Self::V1_1_0;

    /// The version of this name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|version| version.text() == text)
    }

    fn text(self) -> &'static str {
        match self {
            Self::V0_3_1 => "0.3.1",
            Self::V0_4_0 => "0.4.0",
            Self::V1_0_0 => "1.0.0",
            Self::V1_1_0 => "1.1.0",
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.text())
    }
}

impl Serialize for Version {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.text())
    }
}
