//! Which networks the plugin keeps leases of: the agent's own, and those of configurations that
//! operators have written.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use cni::config::Place;

use super::conflist;

/// What runtimes read of a directory of configurations (libcni, `ConfFiles`).
const ENDINGS: [&str; 3] = ["conflist", "conf", "json"];

/// Where to look for them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stores {
    /// Directory of CNI configurations.
    pub configs: PathBuf,
    /// Directory of the agent's leases, by networks: whoever has written a configuration that does not
    /// say where leases are to be has them there.
    pub state_dir: PathBuf,
}

impl Stores {
    /// The networks that are there now. Those of which only the leases are left are among them: their
    /// pods may be there still.
    ///
    /// # Errors
    /// Where a directory that is there cannot be listed.
    pub fn places(&self) -> io::Result<BTreeSet<Place>> {
        let mut places = BTreeSet::new();
        for path in listed(&self.state_dir)? {
            if let Some(network) = path.file_name().and_then(|name| name.to_str()) {
                places.insert(Place {
                    network: network.to_owned(),
                    state_dir: self.state_dir.clone(),
                });
            }
        }
        for path in listed(&self.configs)? {
            let is_read = ENDINGS
                .iter()
                .any(|ending| path.extension() == Some(ending.as_ref()));
            // One that cannot be read is told of by the runtime, which cannot either.
            let text = fs::read_to_string(path).ok().filter(|_| is_read);
            places.extend(text.and_then(|text| conflist::place(&text)));
        }
        Ok(places)
    }
}

/// What is in a directory; nothing, where that is not there.
fn listed(directory: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(directory) {
        Ok(entries) => entries.map(|entry| Ok(entry?.path())).collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => {
            let directory = directory.display();
            Err(io::Error::new(
                error.kind(),
                format!("{directory}: cannot be listed: {error}"),
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_those_with_leases_and_those_of_configurations() {
        let directory = tempfile::tempdir().unwrap();
        let stores = Stores {
            configs: directory.path().join("net.d"),
            state_dir: directory.path().join("leases"),
        };
        assert_eq!(stores.places().unwrap(), BTreeSet::new());
        fs::create_dir_all(stores.state_dir.join("fairlead/leases")).unwrap();
        fs::create_dir(&stores.configs).unwrap();
        let list = |name: &str, directory: &str| {
            format!(
                r#"{{"cniVersion": "1.0.0", "name": "{name}",
                "plugins": [{{"type": "fairlead-cni", "stateDir": "{directory}"}}]}}"#
            )
        };
        for (file, text) in [
            ("05-pods.conflist", list("pods", "/var/lib/pods")),
            ("05-pods.conflist.old", list("old", "/var/lib/old")),
            ("99-none.conf", "{".to_owned()),
        ] {
            fs::write(stores.configs.join(file), text).unwrap();
        }
        let place = |network: &str, state_dir: &Path| Place {
            network: network.to_owned(),
            state_dir: state_dir.to_owned(),
        };
        let expected = [
            place("fairlead", &stores.state_dir),
            place("pods", Path::new("/var/lib/pods")),
        ];
        assert_eq!(stores.places().unwrap(), BTreeSet::from(expected));
    }
}
