//! Names and hardware addresses, all functions of the attachment, so that a DEL that knows nothing
//! else finds what an ADD made.

use std::fmt;

use crate::environment::Attachment;

/// The host's side of an attachment: `fl` and 52 bits in hexadecimal, 15 bytes in all.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostInterface(String);

/// An Ethernet address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mac(pub [u8; 6]);

/// Which end of the pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The node's.
    Host,
    /// The pod's.
    Pod,
}

const NAME_BITS: u32 = 52;
/// Locally administered, unicast.
const LOCAL: u8 = 0x02;

impl HostInterface {
    /// The name for an attachment.
    pub fn of(attachment: &Attachment) -> Self {
        Self(format!(
            "fl{:013x}",
            hash(attachment, 0) >> (64 - NAME_BITS)
        ))
    }

    /// A name that [`Self::of`] may have made.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix("fl")?;
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        (digits.len() == 13 && digits.bytes().all(is_digit)).then(|| Self(text.to_owned()))
    }

    /// As the kernel has it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for HostInterface {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl Mac {
    /// The address of an end. Chosen here, and not by the kernel: one that the kernel made up,
    /// systemd-udevd replaces (`MACAddressPolicy`), and the pod's neighbour entry would be wrong.
    pub fn of(attachment: &Attachment, end: End) -> Self {
        let salt = match end {
            End::Host => 1,
            End::Pod => 2,
        };
        let [_, _, _, a, b, c, d, e] = hash(attachment, salt).to_be_bytes();
        Self([LOCAL, a, b, c, d, e])
    }

    /// `02:00:00:00:00:01`.
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().filter(|part| part.len() == 2)?;
            *byte = u8::from_str_radix(part, 16).ok()?;
        }
        parts.next().is_none().then_some(Self(bytes))
    }

    /// Whether one interface may have it.
    pub fn is_unicast(self) -> bool {
        self.0[0] & 1 == 0 && self.0 != [0; 6]
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, f] = self.0;
        write!(formatter, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
    }
}

/// FNV-1a, and the finish of MurmurHash3 behind it, as FNV leaves the low bits of the last byte
/// hardly mixed. The same in every version, or an update would lose what its predecessor made.
fn hash(attachment: &Attachment, salt: u8) -> u64 {
    let Attachment { container, ifname } = attachment;
    let bytes = container.bytes().chain([0]).chain(ifname.bytes());
    let mut hash = bytes
        .chain([0, salt])
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn attachment(container: &str, ifname: &str) -> Attachment {
        Attachment {
            container: container.to_owned(),
            ifname: ifname.to_owned(),
        }
    }

    #[test]
    fn names_fit_the_kernel_differ_and_never_change() {
        let names: BTreeSet<String> = (0..10_000)
            .map(|n| HostInterface::of(&attachment(&format!("c{n}"), "eth0")).to_string())
            .collect();
        assert_eq!(names.len(), 10_000);
        assert!(
            names
                .iter()
                .all(|name| HostInterface::parse(name).is_some())
        );
        assert_ne!(
            HostInterface::of(&attachment("ab", "c")),
            HostInterface::of(&attachment("a", "bc"))
        );
        let fixed = attachment("c0ffee", "eth0");
        assert_eq!(HostInterface::of(&fixed).as_str(), "fl29b0d20012e60");
        assert_eq!(Mac::of(&fixed, End::Host).to_string(), "02:1f:90:60:51:d0");
        assert_ne!(Mac::of(&fixed, End::Host), Mac::of(&fixed, End::Pod));
        for foreign in ["flannel.1", "eth0", "fl0123456789ABC", "fl0123456789abcd"] {
            assert_eq!(HostInterface::parse(foreign), None);
        }
    }

    #[test]
    fn hardware_addresses_are_read_and_shown() {
        let mac = Mac::parse("0A:58:0a:f4:00:05").unwrap();
        assert_eq!(mac.to_string(), "0a:58:0a:f4:00:05");
        assert!(mac.is_unicast());
        assert!(!Mac::parse("01:00:5e:00:00:01").unwrap().is_unicast());
        for wrong in [
            "",
            "0a:58:0a:f4:00",
            "0a:58:0a:f4:00:05:06",
            "a:58:0a:f4:00:05",
            "xx:58:0a:f4:00:05",
        ] {
            assert_eq!(Mac::parse(wrong), None);
        }
    }
}
