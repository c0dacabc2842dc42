//! What is looked after between changes: servers that leave, old processes, drift.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use super::{Applier, HOUSEKEEPING};
use crate::apply::drift::{self, Live, certificates};
use crate::apply::files::Stored;
use crate::apply::reload::Proxy;
use crate::apply::state::Event;
use crate::haproxy::runtime::{
    Command, entries_of_map, expected_entries, servers_of_state, sessions_of_stat,
};
use crate::output::Rendered;

/// Backends that are asked for one by one; all of ten thousand tell 10 MiB.
const MAX_ASKED: usize = 32;

/// Each is a question on the socket: ten thousand certificates are looked at in turn.
const CERTIFICATES_A_LOOK: usize = 100;

impl<C> Applier<C> {
    pub(super) async fn keep_house(&mut self) {
        let now = Instant::now();
        if now >= self.housekeeping + HOUSEKEEPING {
            self.housekeeping = now;
            self.let_leave(now).await;
            if let Ok(seen) = self.settings.proxy.seen().await {
                self.machine
                    .on(Event::OldProcesses(seen.old_processes), now);
            }
            self.ask_hand_over().await;
        }
        let Some(watch) = self.settings.drift else {
            return;
        };
        // While something is on its way, the disk is behind as it should be.
        if now < self.drift_at + watch.interval || self.saving.is_some() {
            return;
        }
        self.drift_at = now;
        self.certificate_turn = self.certificate_turn.wrapping_add(CERTIFICATES_A_LOOK);
        let Some(live) = &self.live else { return };
        let mut found = self.differences(&live.rendered).await;
        found.extend(self.certificates(&live.rendered).await);
        let is_file_changed = match self.settings.store.current() {
            Stored::Good(manifest) => {
                // What is half done has files that are not live, and that are meant.
                let known = self.machine.status().digest.as_ref();
                let is_other = known.is_some_and(|known| *known != manifest.digest);
                let is_other = is_other && self.machine.is_idle();
                if is_other {
                    found.push("the files are another version".to_owned());
                }
                is_other
            }
            Stored::Corrupt(why) => {
                found.push(why);
                true
            }
            Stored::Nothing => {
                found.push("the files are gone".to_owned());
                true
            }
        };
        if let (false, Some(first)) = (found.is_empty(), found.first().cloned()) {
            tracing::warn!(differences = found.len(), %first, "drift");
            if watch.repairs {
                if is_file_changed && let Err(error) = self.rewrite() {
                    found.push(error);
                }
                self.machine.on(Event::Drifted(first), now);
            }
        }
        self.machine.status_mut().drift = found;
    }

    fn rewrite(&mut self) -> Result<(), String> {
        let Some(live) = &self.live else {
            return Ok(());
        };
        let store = &self.settings.store;
        let extent = crate::apply::files::Extent::of(&live.plan);
        let written = store.write(&live.rendered, Some(extent));
        let switched = written.and_then(|candidate| {
            store.switch(&candidate)?;
            store.confirm(&candidate.manifest)
        });
        switched.map_err(|error| error.to_string())
    }

    /// How the running process differs from files; nothing where it cannot be asked.
    pub(super) async fn differences(&self, meant: &Rendered) -> Vec<String> {
        let haproxy = match &self.settings.proxy {
            Proxy::Haproxy(haproxy) => haproxy,
            Proxy::Nginx(_) => return self.other_generation(meant).await,
            Proxy::Notified(_) => return Vec::new(),
        };
        let main = meant.files.get(&meant.main);
        let main = main.map(|file| String::from_utf8_lossy(&file.content).into_owned());
        let main = main.unwrap_or_default();
        let Ok(state) = haproxy.runtime.ask(&["show", "servers", "state"]).await else {
            return vec!["HAProxy does not answer".to_owned()];
        };
        let expected = expected_entries(&main, &meant.files);
        let mut maps = BTreeMap::new();
        for map in expected.keys() {
            if let Ok(answer) = haproxy.runtime.ask(&["show", "map", map]).await {
                maps.insert(map.clone(), entries_of_map(&answer));
            }
        }
        let live = Live {
            servers: servers_of_state(&state),
            maps,
        };
        drift::differences(&main, &expected, &live, &self.leaving)
    }

    /// nginx tells its generation and no more.
    async fn other_generation(&self, meant: &Rendered) -> Vec<String> {
        let Some(meant) = &meant.generation else {
            return Vec::new();
        };
        match self.settings.proxy.seen().await {
            Err(error) => vec![format!("nginx does not answer: {error}")],
            Ok(seen) => match seen.generation {
                Some(told) if told != meant.as_str() => {
                    vec![format!("nginx runs generation {told}, not {meant}")]
                }
                Some(_) | None => Vec::new(),
            },
        }
    }

    /// Certificates that HAProxy has not, or has others of.
    async fn certificates(&self, meant: &Rendered) -> Vec<String> {
        let Proxy::Haproxy(haproxy) = &self.settings.proxy else {
            return Vec::new();
        };
        let served = certificates::served(meant);
        if served.is_empty() {
            return Vec::new();
        }
        let Ok(answer) = haproxy.runtime.ask(&["show", "ssl", "cert"]).await else {
            return Vec::new();
        };
        let there = certificates::names(&answer);
        let missing = served.iter().filter(|name| !there.contains(name.as_str()));
        let mut found: Vec<String> = missing
            .map(|name| format!("certificate {name} is not there"))
            .collect();
        let start = self.certificate_turn % served.len();
        let turn = served.iter().cycle().skip(start).take(served.len());
        for name in turn.take(CERTIFICATES_A_LOOK) {
            if let Ok(answer) = haproxy.runtime.ask(&["show", "ssl", "cert", name]).await {
                found.extend(certificates::difference(name, &answer, meant));
            }
        }
        found
    }

    async fn let_leave(&mut self, now: Instant) {
        let Proxy::Haproxy(haproxy) = &self.settings.proxy else {
            return;
        };
        if self.leaving.servers.is_empty() {
            return;
        }
        let servers = self.leaving.servers.keys();
        let mut backends: BTreeSet<&str> = servers.map(|server| server.backend.as_str()).collect();
        if backends.len() > MAX_ASKED {
            backends = ["-1"].into();
        }
        let mut sessions = BTreeMap::new();
        for backend in backends {
            // Servers, and nothing else.
            let words = ["show", "stat", backend, "4", "-1"];
            match haproxy.runtime.ask(&words).await {
                Ok(answer) => sessions.extend(sessions_of_stat(&answer)),
                Err(_) => return,
            }
        }
        let commands = self.leaving.due(&sessions, self.settings.drain, now);
        let refusals = match haproxy.runtime.execute(&commands).await {
            Ok(refusals) => refusals,
            Err(error) => {
                tracing::debug!(%error, "servers leave later");
                return;
            }
        };
        for command in commands {
            if let Command::DeleteServer(server) = command {
                let said = format!("del server {server}");
                // One with idle connections still is refused, and tried again.
                if !refusals.iter().any(|refusal| refusal.command == said) {
                    self.leaving.remove(&server);
                }
            }
        }
    }

    async fn ask_hand_over(&mut self) {
        let Proxy::Haproxy(haproxy) = &self.settings.proxy else {
            return;
        };
        if self.is_hand_over_known {
            return;
        }
        if let Ok(is_handed) = haproxy.hands_over_listeners().await {
            self.is_hand_over_known = true;
            self.machine.status_mut().hands_over_listeners = Some(is_handed);
            if !is_handed {
                tracing::warn!(
                    "HAProxy's stats socket lacks `expose-fd listeners`; add it, or reloads may \
                     refuse connections"
                );
            }
        }
    }
}
