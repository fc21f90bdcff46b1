//! The serving side of the agent's socket: reads requests, hands them to the loop, passes on what happens.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use evenkeel_host::image::{Progress, Quiet};
use evenkeel_plan::{Key, Outcome, Report};
use tokio::io::AsyncWriteExt;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;

use super::control::{AgentStatus, Answer, Request, line, read_request};
use crate::reconcile::{Deed, Events};

/// How the agent is, for whoever asks.
pub(super) type SharedStatus = Arc<Mutex<AgentStatus>>;

/// A request on its way to the loop.
pub(super) enum Incoming {
    Apply(ApplyRequest, Relay),
    Wake,
}

/// What an `apply` asks of the agent.
pub(super) struct ApplyRequest {
    pub path: Option<PathBuf>,
    pub allow_data_loss: bool,
    pub allow_empty: bool,
    pub no_prune: bool,
}

/// Accepts connections for as long as the agent runs.
///
/// How the agent is is answered from here, so that a long pass keeps nobody waiting for it.
pub(super) async fn serve(listener: UnixListener, sender: mpsc::Sender<Incoming>, status: SharedStatus) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::spawn(answer(stream, sender.clone(), Arc::clone(&status)))),
            // Out of descriptors, most likely: do not spin on it.
            Err(error) => {
                tracing::warn!("a request was lost: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn answer(mut stream: UnixStream, sender: mpsc::Sender<Incoming>, status: SharedStatus) {
    match read_request(&mut stream).await {
        Err(message) => say(&mut stream, &Answer::Refused { message }).await,
        Ok(Request::Status) => {
            let status = status.lock().unwrap_or_else(PoisonError::into_inner).clone();
            say(&mut stream, &Answer::Status(status)).await;
        }
        Ok(Request::Wake) => {
            if sender.send(Incoming::Wake).await.is_ok() {
                say(&mut stream, &Answer::Heard).await;
            }
        }
        Ok(Request::Apply { path, allow_data_loss, allow_empty, no_prune }) => {
            let (lines, mut answers) = mpsc::channel(1024);
            let request = ApplyRequest { path, allow_data_loss, allow_empty, no_prune };
            if sender.send(Incoming::Apply(request, Relay(lines))).await.is_ok() {
                while let Some(answer) = answers.recv().await {
                    say(&mut stream, &answer).await;
                }
            }
        }
    }
}

/// Writes one answer. An asker who went away hears nothing more; what he asked for is done all the same.
async fn say(stream: &mut UnixStream, answer: &Answer) {
    if let Err(error) = stream.write_all(&line(answer)).await {
        tracing::debug!("an asker went away: {error}");
    }
}

/// Passes the steps of a pass on to whoever asked for it.
#[derive(Clone)]
pub(super) struct Relay(mpsc::Sender<Answer>);

impl Relay {
    pub(super) async fn refuse(&self, message: String) {
        let _ = self.0.send(Answer::Refused { message }).await;
    }

    pub(super) async fn end(&self, result: Result<Report, String>) {
        let answer = match result {
            Ok(report) => Answer::Report(Box::new(report)),
            Err(message) => Answer::Failed { message },
        };
        let _ = self.0.send(answer).await;
    }

    /// Steps are news, not the result: where the asker reads too slowly they are dropped rather than waited for.
    fn tell(&self, answer: Answer) {
        let _ = self.0.try_send(answer);
    }
}

impl Events for Relay {
    fn started(&self, key: &Key, deed: Deed) {
        self.tell(Answer::Step { key: key.clone(), deed, outcome: None, milliseconds: 0 });
    }

    fn finished(&self, key: &Key, deed: Deed, outcome: &Outcome, took: Duration) {
        let milliseconds = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        self.tell(Answer::Step { key: key.clone(), deed, outcome: Some(outcome.clone()), milliseconds });
    }

    fn progress(&self) -> &dyn Progress {
        &Quiet
    }
}
