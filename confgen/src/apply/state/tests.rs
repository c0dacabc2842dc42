use std::time::{Duration, Instant};

mod reloads;
mod saving;

use super::{Cause, Event, How, Machine, Pace, Seen, Step};

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

/// The first reload takes.
fn reloaded(machine: &mut Machine, now: Instant) {
    machine.on(Event::Reloaded(Seen::default()), now);
    let first = Event::SeenNow {
        seen: seen(1, "a"),
        meant: None,
    };
    machine.on(first, now);
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
