//! How far image fetches have come: bars on a terminal, one line for each thing that happened otherwise.
//!
//! Both go to the standard error output, so that what a verb prints stays clean. What is to be told comes from
//! `evenkeel_host::image`; nothing here knows how a fetch works.

use std::collections::HashMap;
use std::io::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};

use evenkeel_host::image::{Event, Phase, Progress};
use indicatif::{BinaryBytes, MultiProgress, ProgressBar, ProgressStyle};

/// One bar for each layer on its way.
#[derive(Debug, Default)]
pub struct Bars {
    area: MultiProgress,
    bars: Mutex<HashMap<String, ProgressBar>>,
}

impl Bars {
    /// Writes something else to the terminal while no bar is in the way.
    pub fn suspend<T>(&self, write: impl FnOnce() -> T) -> T {
        self.area.suspend(write)
    }

    /// Takes away what is still drawn.
    pub fn clear(&self) {
        locked(&self.bars).clear();
        // Where the terminal is gone there is nothing to clear.
        let _ = self.area.clear();
    }
}

impl Progress for Bars {
    fn event(&self, event: &Event<'_>) {
        let mut bars = locked(&self.bars);
        let key = key(event);
        let bar = bars.entry(key.clone()).or_insert_with(|| {
            let bar = self.area.add(ProgressBar::new(0));
            bar.set_style(style());
            bar.set_prefix(key);
            bar
        });
        match event.phase {
            Phase::Waiting { total } => bar.set_length(total),
            Phase::Downloading { current, total } | Phase::Unpacking { current, total } => {
                bar.set_length(total);
                bar.set_position(current);
            }
            Phase::Verifying => {}
            Phase::Done | Phase::Exists => bar.set_position(bar.length().unwrap_or_default()),
        }
        if matches!(event.phase, Phase::Done | Phase::Exists) {
            bar.finish_with_message(word(event.phase));
            // Another fetch may bring the same layer once more.
            bars.remove(&self::key(event));
        } else {
            bar.set_message(word(event.phase));
        }
    }
}

const TEMPLATE: &str = "{prefix:24!} {msg:11} {wide_bar} {binary_bytes:>10} of {binary_total_bytes:10}";

fn style() -> ProgressStyle {
    let style = ProgressStyle::with_template(TEMPLATE);
    style.expect("a test parses the template").progress_chars("━╸ ")
}

/// One line when a layer begins to come, and one when it is there.
#[derive(Debug)]
pub struct Lines<W> {
    state: Mutex<State<W>>,
}

#[derive(Debug)]
struct State<W> {
    output: W,
    /// The last word about each layer that is on its way.
    told: HashMap<String, &'static str>,
}

impl<W: Write + Send> Lines<W> {
    pub fn new(output: W) -> Self {
        Lines { state: Mutex::new(State { output, told: HashMap::new() }) }
    }
}

impl<W: Write + Send> Progress for Lines<W> {
    fn event(&self, event: &Event<'_>) {
        let mut state = locked(&self.state);
        let (key, word) = (key(event), word(event.phase));
        let size = match event.phase {
            // What waits or is flushed is no news.
            Phase::Waiting { .. } | Phase::Verifying => return,
            Phase::Downloading { total, .. } | Phase::Unpacking { total, .. } => {
                format!(" {}", BinaryBytes(total))
            }
            Phase::Done | Phase::Exists => String::new(),
        };
        if state.told.get(&key) == Some(&word) {
            return;
        }
        // Nobody listens on a closed pipe; the fetch goes on.
        let _ = writeln!(state.output, "{key}: {word}{size}");
        if matches!(event.phase, Phase::Done | Phase::Exists) {
            state.told.remove(&key);
        } else {
            state.told.insert(key, word);
        }
    }
}

fn key(event: &Event<'_>) -> String {
    format!("{} {}", event.image, event.short_layer())
}

fn word(phase: Phase) -> &'static str {
    match phase {
        Phase::Waiting { .. } => "waiting",
        Phase::Downloading { .. } => "downloading",
        Phase::Verifying => "verifying",
        Phase::Unpacking { .. } => "unpacking",
        Phase::Done => "done",
        Phase::Exists => "exists",
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use evenkeel_schema::{Digest, Name};
    use indicatif::ProgressDrawTarget;

    use super::*;

    fn tell(progress: &dyn Progress) {
        let image: Name = "web".parse().unwrap();
        let layer: Digest = format!("sha256:{}", "0123456789abcdef".repeat(4)).parse().unwrap();
        let total = 3 << 20;
        let phases = [
            Phase::Waiting { total },
            Phase::Downloading { current: 1, total },
            Phase::Downloading { current: total, total },
            Phase::Verifying,
            Phase::Unpacking { current: 0, total },
            Phase::Unpacking { current: total, total },
            Phase::Done,
        ];
        for phase in phases {
            progress.event(&Event { image: &image, layer: Some(&layer), phase });
        }
        progress.event(&Event { image: &image, layer: None, phase: Phase::Exists });
    }

    #[test]
    fn lines_tell_each_thing_once() {
        let lines = Lines::new(Vec::new());
        tell(&lines);
        let text = String::from_utf8(lines.state.into_inner().unwrap().output).unwrap();
        let expected = "web 0123456789ab: downloading 3.00 MiB\nweb 0123456789ab: unpacking 3.00 MiB\n\
                        web 0123456789ab: done\nweb rootfs: exists\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_bar_follows_its_layer_and_goes_with_it() {
        ProgressStyle::with_template(TEMPLATE).expect("the template parses");
        let bars = Bars::default();
        bars.area.set_draw_target(ProgressDrawTarget::hidden());
        let image: Name = "web".parse().unwrap();
        let layer: Digest = format!("sha256:{}", "0123456789abcdef".repeat(4)).parse().unwrap();
        let event = |phase| bars.event(&Event { image: &image, layer: Some(&layer), phase });
        event(Phase::Downloading { current: 5, total: 9 });
        let bar = bars.bars.lock().unwrap()["web 0123456789ab"].clone();
        assert_eq!((bar.position(), bar.length(), bar.message().as_str()), (5, Some(9), "downloading"));
        event(Phase::Unpacking { current: 2, total: 9 });
        assert_eq!((bar.position(), bar.message().as_str()), (2, "unpacking"));
        event(Phase::Done);
        assert_eq!((bar.position(), bar.message().as_str(), bar.is_finished()), (9, "done", true));
        assert!(bars.bars.lock().unwrap().is_empty());
    }
}
