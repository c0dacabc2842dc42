//! What a lab's interfaces need before their drivers send packets on (XDP).

use anyhow::{Context, Result, ensure};

use super::Lab;

/// Makes the client compute its checksums. A veth leaves that to the receiver, and what XDP sends on has
/// lost the note of it; cards have no such notes.
///
/// # Errors
/// Where the rule is refused.
pub fn complete_checksums(lab: &Lab) -> Result<()> {
    for program in ["iptables", "ip6tables"] {
        let rule = "-t mangle -A POSTROUTING -j CHECKSUM --checksum-fill".split(' ');
        let status = lab.place("client").command(program).args(rule).status();
        let status = status.with_context(|| format!("{program} cannot be run"))?;
        ensure!(status.success(), "{program}: {status}");
    }
    Ok(())
}
