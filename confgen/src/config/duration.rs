//! Durations as people write them: `250ms`, `5s`, `2m`, `1h`.

use std::fmt;
use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A duration in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Period(pub Duration);

const UNITS: [(&str, u64); 4] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)];

impl Period {
    /// Reads a number with its unit.
    ///
    /// # Errors
    /// What is expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        let expected = || format!("is {text:?}, not a duration as in 250ms, 5s, 2m or 1h");
        let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
        let number: u64 = digits.parse().map_err(|_| expected())?;
        let unit = &text[digits.len()..];
        let unit = UNITS.iter().find(|(name, _)| *name == unit);
        let (_, milliseconds) = unit.ok_or_else(expected)?;
        let all = number.checked_mul(*milliseconds).ok_or_else(expected)?;
        Ok(Self(Duration::from_millis(all)))
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let milliseconds = self.0.as_millis();
        let fits = |(_, of): &&(&str, u64)| milliseconds.is_multiple_of(u128::from(*of));
        let (name, of) = UNITS.iter().rev().find(fits).unwrap_or(&UNITS[0]);
        write!(f, "{}{name}", milliseconds / u128::from(*of))
    }
}

impl Serialize for Period {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Period {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::Period;

    #[test]
    fn durations_are_read_as_they_are_written() {
        for text in ["250ms", "5s", "90s", "2m", "1h"] {
            let period = Period::parse(text).unwrap();
            let again = Period::parse(&period.to_string()).unwrap();
            assert_eq!(period, again, "{text}");
        }
        for bad in ["", "5", "s", "5 s", "-1s", "5d", "99999999999999999999h"] {
            assert!(Period::parse(bad).is_err(), "{bad:?}");
        }
    }
}
