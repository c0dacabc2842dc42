//! What a running HAProxy tells about itself.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::command::ServerRef;

/// A server as the process has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveServer {
    /// Address.
    pub address: IpAddr,
    /// Port.
    pub port: u16,
    /// Weight that was set.
    pub weight: u16,
    /// Whether it was put into maintenance.
    pub is_maintained: bool,
}

/// `SRV_ADMF_FMAINT` of `srv_admin_state`: someone said so, at the socket or by `disabled`.
const FORCED_MAINTENANCE: u32 = 0x01;

/// The answer to `show servers state`: servers by name. Those without a numeric address, which
/// HAProxy resolves itself, are left out.
pub fn servers_of_state(answer: &str) -> BTreeMap<ServerRef, LiveServer> {
    let mut lines = answer.lines();
    let columns: Vec<&str> = lines
        .find_map(|line| line.strip_prefix("# "))
        .map(|header| header.split(' ').collect())
        .unwrap_or_default();
    let server = |line: &str| {
        let fields: Vec<&str> = line.split(' ').collect();
        let field = |name: &str| {
            let column = columns.iter().position(|column| *column == name)?;
            fields.get(column).copied()
        };
        let server = ServerRef {
            backend: field("be_name")?.to_owned(),
            server: field("srv_name")?.to_owned(),
        };
        let live = LiveServer {
            address: field("srv_addr")?.parse().ok()?,
            port: field("srv_port")?.parse().ok()?,
            weight: field("srv_uweight")?.parse().ok()?,
            is_maintained: field("srv_admin_state")?.parse::<u32>().ok()? & FORCED_MAINTENANCE != 0,
        };
        Some((server, live))
    };
    lines.filter_map(server).collect()
}

/// The answer to `show stat -1 4 -1`: sessions of each server, those that wait for it included.
pub fn sessions_of_stat(answer: &str) -> BTreeMap<ServerRef, u64> {
    let mut lines = answer.lines();
    let columns: Vec<&str> = lines
        .find_map(|line| line.strip_prefix("# "))
        .map(|header| header.split(',').collect())
        .unwrap_or_default();
    let sessions = |line: &str| {
        let fields: Vec<&str> = line.split(',').collect();
        let field = |name: &str| {
            let column = columns.iter().position(|column| *column == name)?;
            fields.get(column).copied()
        };
        let server = ServerRef {
            backend: field("pxname")?.to_owned(),
            server: field("svname")?.to_owned(),
        };
        let count = |name: &str| field(name).and_then(|text| text.parse::<u64>().ok());
        Some((
            server,
            count("scur")?.saturating_add(count("qcur").unwrap_or(0)),
        ))
    };
    lines.filter_map(sessions).collect()
}

/// The answer to `show map FILE`: keys and values, in order.
pub fn entries_of_map(answer: &str) -> Vec<(String, String)> {
    let entry = |line: &str| {
        let (_address, entry) = line.strip_prefix("0x")?.split_once(' ')?;
        let (key, value) = entry.split_once(' ').unwrap_or((entry, ""));
        Some((key.to_owned(), value.to_owned()))
    };
    answer.lines().filter_map(entry).collect()
}

/// A line `name: value` of `show info`.
pub(crate) fn info<'a>(answer: &'a str, name: &str) -> Option<&'a str> {
    answer.lines().find_map(|line| {
        let (found, value) = line.split_once(':')?;
        (found == name).then(|| value.trim())
    })
}

/// What the master tells at `show proc`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Processes {
    /// The worker that takes new connections.
    pub(crate) worker: Option<u32>,
    /// Workers that only finish what they have.
    pub(crate) old_workers: usize,
    /// Reloads that did not take; HAProxy counts them until one does.
    pub(crate) failed_reloads: Option<u32>,
}

/// The answer to `show proc`.
pub(crate) fn processes(answer: &str) -> Processes {
    let mut found = Processes::default();
    let mut is_old = false;
    for line in answer.lines() {
        if line.starts_with("# old workers") {
            is_old = true;
        } else if line.starts_with("# ") {
            is_old = false;
        }
        let mut words = line.split_whitespace();
        let (pid, kind) = (words.next(), words.next());
        match kind {
            Some("master") => {
                let failed = line.split_once("[failed:").and_then(|(_, rest)| {
                    let number = rest.split(']').next()?;
                    number.trim().parse().ok()
                });
                found.failed_reloads = failed;
            }
            Some("worker") if is_old => found.old_workers += 1,
            Some("worker") => found.worker = pid.and_then(|pid| pid.parse().ok()),
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::{entries_of_map, info, processes, servers_of_state, sessions_of_stat};

    #[test]
    fn answers_of_a_real_haproxy_are_read() {
        let servers = servers_of_state(
            "1\n# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight \
             srv_iweight srv_time_since_last_change srv_check_status srv_check_result \
             srv_check_health srv_check_state srv_agent_state bk_f_forced_id srv_f_forced_id \
             srv_fqdn srv_port srvrecord srv_use_ssl srv_check_port srv_check_addr srv_agent_addr \
             srv_agent_port\n\
             3 b1 1 s1 127.0.0.1 2 0 10 10 3 6 3 4 6 0 0 0 - 19001 - 0 0 - - 0\n\
             3 b1 2 s6 ::1 0 5 1 1 0 1 0 0 8 0 0 0 - 19002 - 0 0 - - 0\n\n",
        );
        let found: Vec<String> = servers
            .iter()
            .map(|(server, live)| format!("{server} {live:?}"))
            .collect();
        assert_eq!(
            found,
            [
                "b1/s1 LiveServer { address: 127.0.0.1, port: 19001, weight: 10, is_maintained: false }",
                "b1/s6 LiveServer { address: ::1, port: 19002, weight: 1, is_maintained: true }",
            ]
        );
        let sessions = sessions_of_stat("# pxname,svname,qcur,qmax,scur,smax,\nb1,s1,1,0,2,9,\n");
        assert_eq!(sessions.values().copied().collect::<Vec<_>>(), [3]);
        let entries = entries_of_map("0x56158690aad0 x.example b1\n0x1 y b1 c d\n\n");
        assert_eq!(entries[1], ("y".to_owned(), "b1 c d".to_owned()));
        let told = processes(
            "#<PID> <type> <reloads> <uptime> <version>\n\
             7617 master 2 [failed: 1] 0d00h00m46s 2.6.12-1+deb12u4\n# workers\n\
             8955 worker 1 0d00h00m04s 2.6.12\n# old workers\n8900 worker 2 0d00h00m14s 2.6.12\n\
             # programs\n\n",
        );
        assert_eq!(
            (told.worker, told.old_workers, told.failed_reloads),
            (Some(8955), 1, Some(1))
        );
        assert_eq!(
            info("Pid: 12\ndescription: gen_a\n", "description"),
            Some("gen_a")
        );
    }
}
