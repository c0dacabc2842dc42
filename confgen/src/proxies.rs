//! The real proxies, asked whether they take what was rendered. For tests.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::output::Rendered;

/// A program of this machine; where it is missing, the test that starts it fails.
pub(crate) fn program(name: &str) -> Command {
    Command::new(name)
}

/// Writes every file below a directory.
#[track_caller]
pub(crate) fn write(rendered: &Rendered, directory: &Path) {
    for (name, file) in &rendered.files {
        let path = directory.join(name);
        let parent = path.parent().expect("a directory");
        fs::create_dir_all(parent).expect("the directory is made");
        fs::write(path, &file.content).expect("the file is written");
    }
}

/// What `haproxy -c` says against the files; warnings count.
#[track_caller]
pub(crate) fn haproxy_objections(rendered: &Rendered) -> Option<String> {
    let directory = tempfile::tempdir().expect("a directory");
    write(rendered, directory.path());
    // Without `-q`, since warnings are of interest.
    let main = directory.path().join(&rendered.main);
    objections(program("haproxy").args(["-c", "-f"]).arg(main))
}

/// What a command says where it fails or warns. A missing binary is a failure of the test.
#[track_caller]
fn objections(command: &mut Command) -> Option<String> {
    let output = command.output().expect("the proxy is installed");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let is_clean = output.status.success() && !said.to_lowercase().contains("[warn");
    (!is_clean).then_some(said)
}

/// Options by which `nginx -t` leaves the machine's own directories alone.
pub(crate) fn nginx_options() -> crate::nginx::Options {
    crate::nginx::Options {
        run_directory: "/tmp/fairlead-nginx-test".to_owned(),
        temporary_directory: "/tmp/fairlead-nginx-test".to_owned(),
        pid_file: "/tmp/fairlead-nginx-test/nginx.pid".to_owned(),
        connections: 512,
        ..crate::nginx::Options::default()
    }
}

/// What `nginx -t` says against the files; warnings count.
#[track_caller]
pub(crate) fn nginx_objections(rendered: &Rendered) -> Option<String> {
    let directory = tempfile::tempdir().expect("a directory");
    write(rendered, directory.path());
    fs::create_dir_all("/tmp/fairlead-nginx-test").expect("the directory is made");
    let main = directory.path().join(&rendered.main);
    objections(program("nginx").arg("-t").arg("-c").arg(main))
}
