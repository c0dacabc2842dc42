//! The kernel's hurry while programs are attached, on a file in place of the machine's setting.

use std::fs;
use std::path::PathBuf;

use tests::harness::{Agent, AgentOptions, Builder, Lab, agent_program};

/// A program that runs the agent with a file of the lab's for `/sys/kernel/rcu_expedited`, and away
/// from others who hurry on this machine.
fn wrapper(lab: &Lab, setting: &str) -> PathBuf {
    let agent = agent_program().unwrap();
    let text = format!(
        "exec unshare -m sh -ec 'mkdir -p /run/fairlead; mount -t tmpfs tmpfs /run/fairlead; mount --bind {setting} /sys/kernel/rcu_expedited; exec \"$0\" \"$@\"' {} \"$@\"",
        agent.display()
    );
    lab.script("agent-with-setting", &text).unwrap()
}

#[test]
fn the_kernel_is_hurried_unless_it_is_turned_off() {
    let lab = Builder::new(env!("CARGO_BIN_EXE_fairlead-traffic"), 1)
        .build()
        .unwrap();
    lab.apply_nodes().unwrap();
    let setting = lab.directory().join("rcu_expedited");
    let program = wrapper(&lab, &setting.display().to_string());
    // As the kernel writes it; who has written it leaves no line's end.
    const UNTOUCHED: &str = "0\n";
    for (flag, is_touched) in [
        ("--rcu-expedited=false", false),
        ("--rcu-expedited=true", true),
    ] {
        fs::write(&setting, UNTOUCHED).unwrap();
        let options = AgentOptions {
            program: Some(program.clone()),
            ..AgentOptions::flags(&[flag])
        };
        let agent = Agent::ready(&lab, "node1", &options).unwrap();
        let found = fs::read_to_string(&setting).unwrap();
        assert_eq!(found.trim(), "0", "{flag}");
        assert_eq!(found != UNTOUCHED, is_touched, "{flag}: {found:?}");
        drop(agent);
        // What is pinned would not be attached anew.
        let answer = Agent::cleanup(&lab, "node1", &[flag]).unwrap();
        assert_eq!(answer.code, Some(0), "{answer:?}");
    }
}
