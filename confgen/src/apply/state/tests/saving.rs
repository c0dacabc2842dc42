//! What is live goes to the disk.

use std::time::Instant;

use super::{MS, S, checked, machine, reload, reloaded, rendered, world};
use crate::apply::state::{Event, How, Machine, Pace, Step};

#[test]
fn commands_are_live_at_once_and_saved_in_a_quiet_moment() {
    let (mut machine, start) = machine();
    let is_saved = false;
    let mut now = start;
    for number in 1..=3 {
        now = rendered(&mut machine, number, now);
        machine.on(Event::Commanded { is_saved }, now);
        assert_eq!(
            (machine.status().live, machine.status().checked),
            (number, 0)
        );
        assert!((machine.status().waited_seconds - 0.1).abs() < 1e-6);
    }
    assert_eq!(machine.next(now), Step::Wait(Some(now + 500 * MS)));
    assert_eq!(machine.next(now + 500 * MS), Step::Save);
    machine.on(Event::Saving, now + 500 * MS);
    machine.on(Event::Saved, now + 500 * MS);
    assert_eq!(machine.next(now + 500 * MS), Step::Wait(None));
    let status = machine.status();
    assert_eq!(
        (
            status.checked,
            status.totals.reloads(),
            status.totals.commands
        ),
        (3, 0, 6)
    );
    // Changes without a pause are saved all the same.
    let start = now + S;
    let mut now = start;
    let mut saved = None;
    for number in 4..60 {
        machine.on(world(number), now);
        now += 100 * MS;
        if machine.next(now) == Step::Save {
            saved.get_or_insert(now - start);
            machine.on(Event::Saving, now);
            machine.on(Event::Saved, now);
        }
        assert_eq!(machine.next(now), Step::Render);
        machine.on(Event::Rendered(How::Commands(2)), now);
        machine.on(Event::Commanded { is_saved }, now);
    }
    assert_eq!(saved, Some(5100 * MS));
}

/// A change that is live and on its way to the disk.
#[track_caller]
fn saving() -> (Machine, Instant) {
    let (mut machine, start) = machine();
    let now = rendered(&mut machine, 1, start);
    machine.on(Event::Commanded { is_saved: false }, now);
    let now = now + S;
    assert_eq!(machine.next(now), Step::Save);
    machine.on(Event::Saving, now);
    (machine, now)
}

#[test]
fn what_cannot_be_saved_is_rendered_again() {
    let (mut machine, now) = saving();
    machine.on(Event::Unsaved("the check fails".to_owned()), now);
    assert!(machine.status().gap.is_some());
    assert_eq!(machine.next(now + S), Step::Render);
    // The disk was full, say: nothing else has changed since.
    let now = now + S;
    machine.on(Event::Unchanged, now);
    let now = now + S;
    assert_eq!(machine.next(now), Step::Save);
    machine.on(Event::Saving, now);
    machine.on(Event::Saved, now);
    machine.on(world(2), now);
    let now = now + S;
    assert_eq!(machine.next(now), Step::Render);
    machine.on(Event::Unchanged, now);
    assert_eq!(machine.next(now + S), Step::Wait(None));
}

#[test]
fn a_change_does_not_wait_for_an_earlier_one_to_be_saved() {
    let (mut machine, now) = saving();
    let now = rendered(&mut machine, 2, now);
    machine.on(Event::Commanded { is_saved: false }, now);
    // One at a time, and nothing that writes files beside it.
    assert_eq!(machine.next(now + S), Step::Wait(None));
    machine.on(world(3), now + S);
    let now = now + 2 * S;
    assert_eq!(machine.next(now), Step::Render);
    machine.on(Event::Rendered(How::Reload(Vec::new())), now);
    assert_eq!(machine.next(now), Step::Wait(None));
    machine.on(Event::Saved, now);
    assert_eq!((machine.status().live, machine.status().checked), (2, 1));
    assert_eq!(machine.next(now), Step::Check);
}

/// A reload that the budget holds for an hour; then a change whose endpoints go before it.
#[track_caller]
fn partly() -> (Machine, Instant) {
    let mut pace = Pace::new(1);
    pace.budget.min_gap = 3600 * S;
    let (mut machine, start) = (Machine::new(pace), Instant::now());
    let now = checked(&mut machine, 1, reload(), start);
    machine.on(Event::Installed, now);
    reloaded(&mut machine, now);
    machine.on(world(2), now);
    let now = now + 100 * MS;
    assert_eq!(machine.next(now), Step::Render);
    assert!(machine.holds_reloads(now));
    machine.on(Event::Partly(2), now);
    machine.on(Event::Rendered(How::Reload(Vec::new())), now);
    (machine, now)
}

#[test]
fn what_goes_before_a_held_reload_is_saved_while_that_waits() {
    let (mut machine, now) = partly();
    assert_eq!(machine.next(now), Step::Check);
    machine.on(reload(), now);
    let Step::Wait(Some(until)) = machine.next(now) else {
        panic!("the reload does not wait");
    };
    assert_eq!(until, now + 500 * MS);
    assert_eq!(machine.next(until), Step::Save);
    machine.on(Event::Saving, until);
    // Neither is forgotten: the reload waits on, and takes up what changes meanwhile.
    assert!(matches!(machine.next(until), Step::Wait(Some(_))));
    machine.on(world(3), until);
    let now = until + 100 * MS;
    assert_eq!(machine.next(now), Step::Render);
    machine.on(Event::Partly(1), now);
    machine.on(Event::Rendered(How::Reload(Vec::new())), now);
    assert_eq!(machine.next(now), Step::Wait(None));
    machine.on(Event::Saved, now);
    assert_eq!((machine.status().live, machine.status().checked), (1, 2));
    assert_eq!(machine.next(now), Step::Check);
    machine.on(reload(), now);
    assert_eq!(machine.next(now + 500 * MS), Step::Save);
}

#[test]
fn what_goes_before_a_reload_that_failed_is_saved_and_its_backoff_stays() {
    let (mut machine, now) = partly();
    machine.on(Event::Failed("the check fails".to_owned()), now);
    let Step::Wait(Some(retry)) = machine.next(now) else {
        panic!("no retry");
    };
    let due = retry.min(now + 500 * MS);
    assert_eq!(due, now + 500 * MS);
    assert_eq!(machine.next(due), Step::Save);
    machine.on(Event::Saving, due);
    machine.on(Event::Saved, due);
    assert!(machine.holds_reloads(due + 2 * 3600 * S));
    assert_eq!(machine.next(retry + S), Step::Render);
}

#[test]
fn a_reload_waits_until_what_is_live_is_on_disk() {
    let (mut machine, start) = machine();
    let now = rendered(&mut machine, 1, start);
    machine.on(Event::Commanded { is_saved: false }, now);
    let now = checked(&mut machine, 2, reload(), now);
    assert_eq!(machine.next(now), Step::Save);
    machine.on(Event::Saving, now);
    assert_eq!(machine.next(now + S), Step::Wait(None));
    machine.on(Event::Saved, now + S);
    assert_eq!(machine.status().checked, 2);
    assert_eq!(machine.next(now + S), Step::Install);
}
