use std::time::{Duration, Instant};

use super::{Cause, Event, How, Machine, Pace, Seen, Step};
use crate::apply::pace::BudgetLimits;

const MS: Duration = Duration::from_millis(1);
const S: Duration = Duration::from_secs(1);

fn machine() -> (Machine, Instant) {
    (Machine::new(Pace::new(1)), Instant::now())
}

fn world(number: u64) -> Event {
    let is_synced = true;
    Event::World { number, is_synced }
}

fn seen(worker: u32, generation: &str) -> Seen {
    Seen {
        generation: Some(generation.to_owned()),
        workers: [worker].into(),
        ..Seen::default()
    }
}

fn reload() -> Event {
    Event::Checked(How::Reload(vec![Cause::of("backend b: added")]))
}

/// Goes on from a change to the step after the check.
#[track_caller]
fn checked(machine: &mut Machine, number: u64, how: Event, now: Instant) -> Instant {
    machine.on(world(number), now);
    let now = now + 100 * MS;
    assert_eq!(machine.next(now), Step::Render);
    machine.on(Event::Rendered(How::Reload(Vec::new())), now);
    assert_eq!(machine.next(now), Step::Check);
    machine.on(how, now);
    now
}

#[test]
fn nothing_is_rendered_before_everything_is_known() {
    let (mut machine, start) = machine();
    let is_synced = false;
    machine.on(
        Event::World {
            number: 1,
            is_synced,
        },
        start,
    );
    assert_eq!(machine.next(start + S), Step::Wait(None));
    assert!(machine.status().gap.is_some());
    machine.on(world(2), start + S);
    assert_eq!(machine.next(start + S), Step::Render);
}

#[test]
fn what_is_unchanged_does_nothing_more() {
    let (mut machine, start) = machine();
    machine.on(world(1), start);
    assert_eq!(machine.next(start + 100 * MS), Step::Render);
    machine.on(Event::Unchanged, start + 100 * MS);
    assert_eq!(machine.next(start + 100 * MS), Step::Wait(None));
    assert_eq!(
        (machine.status().live, machine.status().totals.reloads()),
        (1, 0)
    );
}

/// Goes on from a change to its commands.
#[track_caller]
fn rendered(machine: &mut Machine, number: u64, now: Instant) -> Instant {
    machine.on(world(number), now);
    let now = now + 100 * MS;
    assert_eq!(machine.next(now), Step::Render);
    machine.on(Event::Rendered(How::Commands(2)), now);
    assert_eq!(machine.next(now), Step::Commands);
    now
}

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
    let (mut machine, start) = self::machine();
    let now = checked(&mut machine, 1, Event::Checked(How::Commands(1)), start);
    assert_eq!(machine.next(now), Step::Install);
    machine.on(Event::Installed, now);
    assert_eq!(machine.next(now), Step::Commands);
    machine.on(Event::CommandRefused("gone".to_owned()), now);
    assert_eq!(machine.next(now), Step::Reload);
}

#[test]
fn what_cannot_be_saved_is_rendered_again() {
    let (mut machine, start) = machine();
    let now = rendered(&mut machine, 1, start);
    machine.on(Event::Commanded { is_saved: false }, now);
    let now = now + S;
    assert_eq!(machine.next(now), Step::Save);
    machine.on(Event::Saving, now);
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
    let (mut machine, start) = machine();
    let now = rendered(&mut machine, 1, start);
    machine.on(Event::Commanded { is_saved: false }, now);
    let now = now + S;
    assert_eq!(machine.next(now), Step::Save);
    machine.on(Event::Saving, now);
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
    machine.on(Event::Reloaded(Seen::default()), now);
    let first = Event::SeenNow {
        seen: seen(1, "a"),
        meant: None,
    };
    machine.on(first, now);
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

/// A reload that the budget holds for an hour; then a change whose endpoints go before it.
#[track_caller]
fn partly() -> (Machine, Instant) {
    let mut pace = Pace::new(1);
    pace.budget.min_gap = 3600 * S;
    let (mut machine, start) = (Machine::new(pace), Instant::now());
    let now = checked(&mut machine, 1, reload(), start);
    machine.on(Event::Installed, now);
    machine.on(Event::Reloaded(Seen::default()), now);
    let first = Event::SeenNow {
        seen: seen(1, "a"),
        meant: None,
    };
    machine.on(first, now);
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

#[test]
fn a_failure_waits_longer_each_time_but_not_for_a_new_change() {
    let (mut machine, start) = machine();
    let mut now = checked(
        &mut machine,
        1,
        Event::Failed("disk full".to_owned()),
        start,
    );
    let mut waits = Vec::new();
    for _ in 0..6 {
        let Step::Wait(Some(until)) = machine.next(now) else {
            panic!("no retry");
        };
        waits.push(until - now);
        now = until;
        assert_eq!(machine.next(now), Step::Render);
        machine.on(Event::Failed("disk full".to_owned()), now);
    }
    assert!(waits[5] > 8 * waits[0], "{waits:?}");
    machine.on(world(2), now);
    assert_eq!(machine.next(now + 100 * MS), Step::Render);
}

#[test]
fn drift_is_repaired_by_a_reload_only_when_nothing_else_happens() {
    let (mut machine, start) = machine();
    let now = checked(&mut machine, 1, reload(), start);
    machine.on(Event::Drifted("server b/s".to_owned()), now);
    assert_eq!(machine.next(now), Step::Install);
    let (mut machine, now) = self::machine();
    machine.on(Event::Drifted("server b/s".to_owned()), now);
    assert_eq!(machine.next(now), Step::Reload);
    assert_eq!(machine.status().totals.repairs, 1);
}
