//! Settings of this network namespace.

use std::io;
use std::path::PathBuf;

/// Value of a setting named as in `net.ipv4.ip_forward`; `None` where the kernel has none.
///
/// # Errors
/// Where it cannot be read.
pub fn get(name: &str) -> io::Result<Option<String>> {
    match std::fs::read_to_string(path(name)) {
        Ok(value) => Ok(Some(value.trim().to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Changes a setting.
///
/// # Errors
/// Where the kernel refuses the value.
pub fn set(name: &str, value: &str) -> io::Result<()> {
    std::fs::write(path(name), value)
}

/// Name of a setting of an interface. As for sysctl(8), a dot in the interface's own name is a slash.
pub fn of_interface(family: &str, interface: &str, setting: &str) -> String {
    let interface = interface.replace('.', "/");
    format!("net.{family}.conf.{interface}.{setting}")
}

/// What has settings of its own: the interfaces, `all`, and `default` for those to come.
///
/// # Errors
/// Where the directory cannot be read.
pub fn interfaces(family: &str) -> io::Result<Vec<String>> {
    let entries = match std::fs::read_dir(format!("/proc/sys/net/{family}/conf")) {
        // A kernel without the family.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    names.collect()
}

fn path(name: &str) -> PathBuf {
    let swapped = name.chars().map(|letter| match letter {
        '.' => '/',
        '/' => '.',
        other => other,
    });
    PathBuf::from("/proc/sys").join(swapped.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::{of_interface, path};

    #[test]
    fn an_interface_may_have_dots_in_its_name() {
        let name = of_interface("ipv4", "eth0.7", "rp_filter");
        let file = path(&name);
        assert_eq!(
            file.to_str(),
            Some("/proc/sys/net/ipv4/conf/eth0.7/rp_filter")
        );
    }
}
