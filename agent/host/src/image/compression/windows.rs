//! The memory that windows of zstd frames take, shared by all that is decompressed at a time.
//!
//! A frame states how far back it may refer, and so much of what came out of it is held. Whoever needs more than is left
//! waits for the others, in the order of asking, so that a large one is not overtaken for ever. What is larger than all
//! there is has it alone: the format leaves no other way.

use std::collections::VecDeque;
use std::io;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How often whoever waits is asked whether it still wants to.
const ASKED: Duration = Duration::from_millis(100);

/// A number of bytes that several share.
#[derive(Debug)]
pub struct Windows {
    size: u64,
    state: Mutex<State>,
    moved: Condvar,
}

#[derive(Debug)]
struct State {
    taken: u64,
    /// Numbers of those who wait, the first of which is next.
    waiting: VecDeque<u64>,
    numbers: u64,
}

impl Windows {
    pub const fn new(size: u64) -> Windows {
        let state = State { taken: 0, waiting: VecDeque::new(), numbers: 0 };
        Windows { size, state: Mutex::new(state), moved: Condvar::new() }
    }

    /// Waits for so many bytes. Whoever holds a share already gives it back first: two that wait for each other would
    /// wait for ever.
    pub fn take(&self, bytes: u64, wanted: impl Fn() -> io::Result<()>) -> io::Result<Share<'_>> {
        let cost = bytes.min(self.size);
        let mut state = self.lock();
        let number = state.numbers;
        state.numbers += 1;
        state.waiting.push_back(number);
        loop {
            if state.waiting.front() == Some(&number) && state.taken + cost <= self.size {
                state.waiting.pop_front();
                state.taken += cost;
                drop(state);
                self.moved.notify_all();
                return Ok(Share { windows: self, bytes, cost });
            }
            state = self.moved.wait_timeout(state, ASKED).unwrap_or_else(PoisonError::into_inner).0;
            if let Err(error) = wanted() {
                state.waiting.retain(|waiting| *waiting != number);
                drop(state);
                self.moved.notify_all();
                return Err(error);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Some of the bytes; given back with the value.
#[derive(Debug)]
pub struct Share<'w> {
    windows: &'w Windows,
    bytes: u64,
    cost: u64,
}

impl Share<'_> {
    /// Gives how large a window may be that has this share.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        self.windows.lock().taken -= self.cost;
        self.windows.moved.notify_all();
    }
}
