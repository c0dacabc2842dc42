//! Reloads that take, that do not, and that wait.

use std::time::Instant;

use super::{S, checked, machine, reload, reloaded, rendered, seen};
use crate::apply::pace::BudgetLimits;
use crate::apply::state::{Event, How, Machine, Pace, Step};

#[test]
fn a_refused_command_is_a_reload_of_checked_files() {
    let (mut machine, start) = machine();
    let now = rendered(&mut machine, 1, start);
    machine.on(Event::CommandRefused("no such backend".to_owned()), now);
    assert_eq!(machine.next(now), Step::Check);
    machine.on(Event::Checked(How::Commands(2)), now);
    assert_eq!(machine.next(now), Step::Install);
    machine.on(Event::Installed, now);
    assert_eq!(machine.next(now), Step::Reload);
    machine.on(Event::Reloaded(seen(1, "a")), now);
    assert_eq!(machine.next(now), Step::ReadBack);
    assert_eq!(machine.status().totals.reloads.get("runtime"), Some(&1));
    // After a quarantine, commands may do; then the files are there first.
    let (mut machine, start) = super::machine();
    let now = checked(&mut machine, 1, Event::Checked(How::Commands(1)), start);
    assert_eq!(machine.next(now), Step::Install);
    machine.on(Event::Installed, now);
    assert_eq!(machine.next(now), Step::Commands);
    machine.on(Event::CommandRefused("gone".to_owned()), now);
    assert_eq!(machine.next(now), Step::Reload);
}

#[test]
fn a_reload_is_live_when_the_new_process_is_seen() {
    let (mut machine, start) = machine();
    let now = checked(&mut machine, 1, reload(), start);
    assert_eq!(machine.next(now), Step::Install);
    machine.on(Event::Installed, now);
    assert_eq!(machine.next(now), Step::Reload);
    machine.on(Event::Reloaded(seen(1, "a")), now);
    let told = |worker, generation| Event::SeenNow {
        seen: seen(worker, generation),
        meant: Some("b".to_owned()),
    };
    machine.on(told(1, "a"), now);
    machine.on(Event::Unseen("refused".to_owned()), now);
    assert_eq!(
        (machine.next(now), machine.status().live),
        (Step::ReadBack, 0)
    );
    machine.on(told(2, "b"), now);
    assert_eq!(
        (machine.next(now), machine.status().live),
        (Step::Wait(None), 1)
    );
    assert_eq!(machine.status().generation.as_deref(), Some("b"));
}

#[test]
fn a_reload_that_silently_fails_is_rolled_back_and_tried_again() {
    let (mut machine, start) = machine();
    let now = checked(&mut machine, 1, reload(), start);
    machine.on(Event::Installed, now);
    machine.on(Event::Reloaded(seen(1, "a")), now);
    let late = now + 31 * S;
    let still = || Event::SeenNow {
        seen: seen(1, "a"),
        meant: Some("b".to_owned()),
    };
    machine.on(still(), late);
    assert_eq!(machine.next(late), Step::RollBack);
    machine.on(Event::RolledBack(Ok(())), late);
    let status = machine.status();
    assert_eq!(
        (
            status.live,
            status.totals.rollbacks,
            status.totals.failed_reloads
        ),
        (0, 1, 1)
    );
    assert!(
        status
            .gap
            .as_deref()
            .is_some_and(|gap| gap.contains("did not take"))
    );
    let Step::Wait(Some(retry)) = machine.next(late) else {
        panic!("no retry");
    };
    assert!(retry <= late + S);
    assert_eq!(machine.next(retry), Step::Render);
}

#[test]
fn a_held_reload_takes_up_what_changes_meanwhile() {
    let mut pace = Pace::new(1);
    pace.budget = BudgetLimits {
        min_gap: 10 * S,
        per_hour: 100,
        max_old_processes: 1,
    };
    let (mut machine, start) = (Machine::new(pace), Instant::now());
    let now = checked(&mut machine, 1, reload(), start);
    machine.on(Event::Installed, now);
    reloaded(&mut machine, now);
    assert_eq!(machine.status().live, 1);
    let reloaded = now;
    let now = checked(&mut machine, 2, reload(), now);
    assert_eq!(machine.next(now), Step::Wait(Some(reloaded + 10 * S)));
    assert!(
        machine
            .status()
            .gap
            .as_deref()
            .is_some_and(|gap| gap.contains("budget"))
    );
    let now = checked(&mut machine, 3, reload(), now);
    assert_eq!(machine.next(now), Step::Wait(Some(reloaded + 10 * S)));
    // Then the old processes hold it.
    let now = reloaded + 10 * S;
    machine.on(Event::OldProcesses(2), now);
    assert_eq!(machine.next(now), Step::Wait(Some(now + S)));
    machine.on(Event::OldProcesses(1), now);
    assert_eq!(machine.next(now), Step::Install);
    assert_eq!(machine.status().checked, 3);
}
