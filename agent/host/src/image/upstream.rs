//! What registries say of images under `pull: always`: asked once in a while, and not at every look.
//!
//! A look may come with every message of the kernel, and a registry that does not answer is given up only after most of a
//! minute. So a look waits for some seconds at most; the question goes on by itself, and a later look finds its answer.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use evenkeel_schema::{Digest, ImageSpec};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::registry::{RegistrySettings, Session};
use super::store::locked;
use crate::error_chain;

/// How long a look waits for registries, all together.
const PATIENCE: Duration = Duration::from_secs(5);

/// The digest that a reference has now, or why nobody knows it.
type Answer = Result<Digest, String>;

/// What is asked of a registry.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Question {
    reference: String,
    pin: Option<Digest>,
    insecure: bool,
}

impl Question {
    pub fn of(reference: &str, spec: &ImageSpec) -> Question {
        Question { reference: reference.to_owned(), pin: spec.digest.clone(), insecure: spec.insecure }
    }
}

/// The questions that this process has asked, with their answers.
#[derive(Debug, Default)]
pub struct Upstream(Mutex<HashMap<Question, Asked>>);

#[derive(Clone, Debug)]
struct Asked {
    began: Instant,
    /// `None` until the registry has answered or was given up.
    said: watch::Receiver<Option<Answer>>,
}

impl Asked {
    fn is_current(&self, freshness: Duration) -> bool {
        let is_pending = self.said.borrow().is_none() && self.said.has_changed().is_ok();
        is_pending || self.began.elapsed() < freshness
    }
}

/// Gives the time until which a look that begins now waits for registries.
pub fn deadline() -> Instant {
    Instant::now() + PATIENCE
}

impl Upstream {
    /// Gives what the registry said within [`RegistrySettings::freshness`], or asks it and waits for the answer.
    pub async fn ask(&self, registries: &RegistrySettings, question: Question, until: Instant) -> Answer {
        let unanswered =
            format!("{} was asked for, and its registry has not answered yet; it is asked on", question.reference);
        let Asked { began, mut said } = {
            let mut asked = locked(&self.0);
            match asked.get(&question) {
                Some(known) if known.is_current(registries.freshness) => known.clone(),
                _ => {
                    let begun = begin(registries.clone(), question.clone());
                    asked.insert(question, begun.clone());
                    begun
                }
            }
        };
        // Only the looks of its first seconds wait for a registry that is silent.
        let _ = timeout_at(until.min(began + PATIENCE), said.wait_for(Option::is_some)).await;
        let answer = said.borrow().clone();
        answer.unwrap_or(Err(unanswered))
    }

    /// Forgets every answer; what is being asked goes on.
    pub fn forget(&self) {
        locked(&self.0).retain(|_, asked| asked.is_current(Duration::ZERO));
    }

    /// Takes note of what a fetch was told.
    pub fn note(&self, question: Question, digest: Digest) {
        let (_, said) = watch::channel(Some(Ok(digest)));
        locked(&self.0).insert(question, Asked { began: Instant::now(), said });
    }
}

/// Asks a registry on a task of its own, which ends with its answer or with the patience for it.
fn begin(registries: RegistrySettings, question: Question) -> Asked {
    let (tell, said) = watch::channel(None);
    tokio::spawn(async move {
        let Question { reference, pin, insecure } = question;
        let ask = async { Session::open(&registries, &reference, pin.as_ref(), insecure).await?.digest().await };
        let answer = ask.await.map_err(|error| error_chain(&error));
        // Whoever asked may be gone.
        let _ = tell.send(Some(answer));
    });
    Asked { began: Instant::now(), said }
}
