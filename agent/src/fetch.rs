//! Fetches of images that may outlast a pass.
//!
//! An agent repairs networks and containers while a large image is still on its way: a fetch that takes longer than
//! the pass is patient goes on by itself, what needs the image waits for a later pass, and its end triggers that pass.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use evenkeel_host::{Applier, error_chain};
use evenkeel_plan::{Key, Kind, Name, ObservedImage};
use evenkeel_schema::ImageSpec;
use tokio::sync::{Notify, watch};

use crate::reconcile::Events;
use crate::schedule::NotDone;

type Fetched = Option<Result<ObservedImage, String>>;

/// How long a pass waits for what takes its own time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// Until it is done: a person waits for the result.
    Whole,
    /// So long; then it goes on beside the following passes.
    Up(Duration),
}

/// The fetches under way.
#[derive(Default)]
pub struct Fetches {
    running: Mutex<BTreeMap<Name, Fetch>>,
    ended: Notify,
}

struct Fetch {
    spec: ImageSpec,
    result: watch::Receiver<Fetched>,
}

impl Fetches {
    /// Fetches an image, or joins the fetch of it that is under way.
    ///
    /// # Errors
    /// `Blocked` by the image itself where the patience ended first; the fetch goes on.
    pub async fn fetch(
        self: &Arc<Self>,
        applier: &Applier,
        name: &Name,
        spec: &ImageSpec,
        events: &Arc<dyn Events>,
        patience: Patience,
    ) -> Result<ObservedImage, NotDone> {
        let mut result = self.join(applier, name, spec, events);
        let ended = async {
            // The sender lives in the task; where the task died without a word, the error says so.
            result.wait_for(Option::is_some).await.map(|fetched| (*fetched).clone()).ok().flatten()
        };
        let fetched = match patience {
            Patience::Whole => ended.await,
            Patience::Up(limit) => match tokio::time::timeout(limit, ended).await {
                Ok(fetched) => fetched,
                Err(_) => return Err(NotDone::Blocked(Key::new(Kind::Image, name.clone()))),
            },
        };
        self.lock().remove(name);
        fetched.unwrap_or_else(|| Err("the fetch ended abnormally".to_owned())).map_err(NotDone::Failed)
    }

    /// Forgets what ended and was never taken, unless `is_wanted` says that it still is: later it would be told as news.
    pub fn forget_ended(&self, is_wanted: impl Fn(&Name, &ImageSpec) -> bool) {
        self.lock().retain(|name, fetch| fetch.result.borrow().is_none() || is_wanted(name, &fetch.spec));
    }

    /// Waits until a fetch that no pass waits for has ended.
    pub async fn ended(&self) {
        self.ended.notified().await;
    }

    fn join(
        self: &Arc<Self>,
        applier: &Applier,
        name: &Name,
        spec: &ImageSpec,
        events: &Arc<dyn Events>,
    ) -> watch::Receiver<Fetched> {
        let mut running = self.lock();
        if let Some(fetch) = running.get(name).filter(|fetch| fetch.spec == *spec) {
            return fetch.result.clone();
        }
        let (sender, result) = watch::channel(None);
        running.insert(name.clone(), Fetch { spec: spec.clone(), result: result.clone() });
        let (fetches, applier, name) = (Arc::clone(self), applier.clone(), name.clone());
        let (spec, events) = (spec.clone(), Arc::clone(events));
        tokio::spawn(async move {
            let fetched = applier.fetch_image(&name, &spec, events.progress()).await;
            let fetched = fetched.map_err(|error| error_chain(&error));
            // Nobody may be waiting any more; then the next pass takes the result.
            let _ = sender.send(Some(fetched));
            fetches.ended.notify_one();
        });
        result
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Name, Fetch>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ended_and_is_not_wanted_any_more_is_forgotten() {
        let spec: ImageSpec = serde_json::from_value(serde_json::json!({"archive": "a.tar"})).unwrap();
        let other: ImageSpec = serde_json::from_value(serde_json::json!({"archive": "b.tar"})).unwrap();
        let fetch = |result| Fetch { spec: spec.clone(), result: watch::channel(result).1 };
        let fetches = Fetches::default();
        let ended = || Some(Err("no such file".to_owned()));
        for (name, result) in [("running", None), ("wanted", ended()), ("gone", ended()), ("changed", ended())] {
            fetches.lock().insert(name.parse().unwrap(), fetch(result));
        }
        let wanted = |name: &Name, fetched: &ImageSpec| match name.as_str() {
            "wanted" => *fetched == spec,
            "changed" => *fetched == other,
            _ => false,
        };
        fetches.forget_ended(wanted);
        let left: Vec<String> = fetches.lock().keys().map(ToString::to_string).collect();
        assert_eq!(left, ["running", "wanted"]);
    }
}
