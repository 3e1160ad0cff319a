//! Typed text and chords on their way to guests' keyboards: one stroke after the other, as fast as
//! the guest reads them.

use alloc::collections::{BTreeMap, VecDeque};

use devmodel::ps2kbd::{Key, us_ascii_to_keys};
use spin::Mutex;

use super::keys;
use crate::cpu::tsc;
use crate::domain::{Domain, State, backend::Backend, console, pv};

/// Most strokes that wait for one guest.
const MOST: usize = 1 << 16;
/// From one character to the next, at least: software behind the keyboard has small buffers too.
const GAP_NS: u64 = 15_000_000;
/// How long a guest may leave a key unread before the next one is offered all the same.
const PATIENCE_NS: u64 = 2_000_000_000;
/// How soon a stroke is offered again.
const RETRY_NS: u64 = 4_000_000;

enum Item {
    Stroke(Key, bool),
    /// Wait until the guest has read what came before.
    Gap,
}

#[derive(Default)]
struct Queue {
    items: VecDeque<Item>,
    /// TSC of the last stroke.
    last: u64,
}

/// By the guest's number. Only CPU 0 comes here.
static QUEUES: Mutex<BTreeMap<usize, Queue>> = Mutex::new(BTreeMap::new());

fn add(id: usize, strokes: impl Iterator<Item = (Key, bool)>) -> bool {
    let mut queues = QUEUES.lock();
    let items = &mut queues.entry(id).or_default().items;
    if items.len() >= MOST {
        return false;
    }
    items.extend(strokes.map(|(key, down)| Item::Stroke(key, down)));
    items.push_back(Item::Gap);
    console::want();
    true
}

/// Types text. The error is a character that no key types, or a full queue.
///
/// # Errors
/// For a person.
pub fn text(id: usize, text: &str) -> Result<(), &'static str> {
    if !text.chars().all(|c| us_ascii_to_keys(c).is_some()) {
        return Err("only ASCII can be typed");
    }
    let chords = text.chars().filter_map(us_ascii_to_keys);
    let taken = chords.fold(true, |taken, chord| taken && add(id, chord.strokes()));
    if taken { Ok(()) } else { Err("too much is waiting to be typed") }
}

/// Presses chords, parted by commas.
///
/// # Errors
/// For a person.
pub fn chords(id: usize, text: &str) -> Result<(), &'static str> {
    for chord in text.split(',') {
        let keys = keys::chord(chord.trim()).ok_or("no such key")?;
        let down = keys.iter().map(|key| (*key, true));
        let up = keys.iter().rev().map(|key| (*key, false));
        if !add(id, down.chain(up)) {
            return Err("too much is waiting to be typed");
        }
    }
    Ok(())
}

/// A key of the host's keyboard, as it comes.
pub fn stroke(id: usize, key: Key, down: bool) {
    let mut queues = QUEUES.lock();
    let items = &mut queues.entry(id).or_default().items;
    if items.len() < MOST {
        items.push_back(Item::Stroke(key, down));
        console::want();
    }
}

/// Gives the guest what it can take now.
pub fn step<B: Backend>(domain: &Domain<B>) {
    let Some(mut queue) = QUEUES.lock().remove(&domain.id) else { return };
    match domain.state() {
        State::Running => {
            if console::guarded(domain, || feed(domain, &mut queue)).is_none() {
                return;
            }
        }
        State::Paused | State::Stopping => console::want_by(tsc::now() + tsc::from_ns(50_000_000)),
        State::Dead => return,
    }
    if !queue.items.is_empty() {
        QUEUES.lock().insert(domain.id, queue);
    }
}

fn feed<B: Backend>(domain: &Domain<B>, queue: &mut Queue) {
    let machine = &domain.machine;
    while let Some(item) = queue.items.front() {
        let now = tsc::now();
        let waited = tsc::to_ns(now.saturating_sub(queue.last));
        let taken = match *item {
            Item::Gap => {
                let idle = || machine.with_keyboard(domain, |ps2| ps2.keyboard_idle());
                waited >= GAP_NS && (waited >= PATIENCE_NS || idle())
            }
            Item::Stroke(key, down) if pv::key(domain, key, down) => true,
            Item::Stroke(key, down) => {
                let at = machine.now(domain);
                machine.with_keyboard(domain, |ps2| ps2.key(key, down, at))
            }
        };
        if !taken {
            console::want_by(now + tsc::from_ns(RETRY_NS));
            return;
        }
        if matches!(item, Item::Stroke(..)) {
            queue.last = now;
        }
        queue.items.pop_front();
    }
}
