//! What the shim is asked, and when it answers.

use std::fs;
use std::time::{Duration, Instant};

use evenkeel_shim::fail_point;
use evenkeel_shim::{Config, Health, Phase, Reply, Request};

use super::{Supervisor, Then, Waiter, with_causes};
use crate::backoff::{Backoff, Ended};
use crate::daemon;
use crate::health::Probes;
use crate::server::ConnectionId;

impl Supervisor {
    pub(super) fn handle(&mut self, connection: ConnectionId, request: Option<Request>) {
        let stopping = self.run.as_ref().is_some_and(|run| run.stopping.is_some());
        let ending = self.run.as_ref().and_then(|run| run.stopping.as_ref()).is_some_and(|s| s.then == Then::End);
        match request {
            None => self.reply(connection, Some("this is no request that the shim knows".to_owned())),
            Some(Request::Start | Request::Restart) if ending => {
                self.reply(connection, Some("the shim is about to end".to_owned()));
            }
            Some(Request::Start) if stopping => {
                self.follow_stop_with(Then::Start);
                self.waiters.push(Waiter { connection, wants_running: true });
            }
            Some(Request::Start) if self.run.is_some() => self.reply(connection, None),
            Some(Request::Restart) if self.run.is_some() => {
                self.stop(None, Then::Start);
                self.waiters.push(Waiter { connection, wants_running: true });
            }
            Some(Request::Start | Request::Restart) => {
                self.start_fresh();
                let error = match &self.status.phase {
                    Phase::Failed { message, .. } => Some(message.clone()),
                    _ => None,
                };
                self.reply(connection, error);
            }
            Some(Request::Stop { timeout_ms }) => {
                if self.run.is_some() {
                    self.stop(timeout_ms.map(Duration::from_millis), Then::Stay);
                    self.waiters.push(Waiter { connection, wants_running: false });
                } else {
                    self.cancel_next_start();
                    self.reply(connection, None);
                }
            }
            Some(Request::Kill { signal }) => {
                let error = match self.run.is_some() {
                    true => self.signal(signal).err().map(|error| with_causes(&error)),
                    false => Some("the container does not run".to_owned()),
                };
                self.reply(connection, error);
            }
            Some(Request::Status) => {
                self.publish();
                self.reply(connection, None);
            }
            Some(Request::Reload) => {
                let error = self.reload().err();
                self.reply(connection, error);
            }
            Some(Request::Shutdown) => {
                self.shut_down();
                match self.over {
                    true => self.reply(connection, None),
                    false => self.waiters.push(Waiter { connection, wants_running: false }),
                }
            }
        }
    }

    /// Stops the container and ends the shim after it.
    pub(super) fn shut_down(&mut self) {
        if self.run.is_some() {
            self.stop(None, Then::End);
        } else {
            self.cancel_next_start();
            self.leave();
        }
    }

    /// Removes everything that is the shim's own, and ends the loop.
    pub(super) fn leave(&mut self) {
        if !self.clean
            && !self.runtime_has_no_state()
            && let Err(error) = self.delete()
        {
            self.note(&error);
        }
        fail_point!("shim.leaving");
        let _ = fs::remove_file(self.runtime_log());
        let _ = fs::remove_file(&self.config.status);
        fail_point!("shim.left");
        let own_log = self.beside_config(crate::OWN_LOG);
        if fs::metadata(&own_log).is_ok_and(|metadata| metadata.len() == 0) {
            let _ = fs::remove_file(own_log);
        }
        self.socket.leave();
        self.over = true;
    }

    pub(super) fn reply(&mut self, connection: ConnectionId, error: Option<String>) {
        self.server.reply(connection, &Reply { error, status: self.status.clone() });
    }

    /// Makes of a start that is due none.
    fn cancel_next_start(&mut self) {
        if self.next_start.take().is_none() {
            return;
        }
        match self.status.phase.clone() {
            Phase::Backoff { exit, .. } => self.enter(Phase::Exited { exit, gave_up: false }),
            Phase::Failed { message, .. } => self.enter(Phase::Failed { message, next_start_at: None, gave_up: false }),
            Phase::Created | Phase::Starting | Phase::Running { .. } | Phase::Exited { .. } => {}
        }
    }

    /// Drops a start that is due where a new policy would not have planned it.
    fn reconsider_next_start(&mut self, new: &Config) {
        let ended = match &self.status.phase {
            Phase::Backoff { exit, .. } => Ended::Exit { code: exit.code, ran: Duration::ZERO },
            _ => Ended::NotStarted,
        };
        if Backoff::default().next(&new.restart, ended).is_none() {
            self.cancel_next_start();
        }
    }

    /// Reads the configuration again. The container is left alone; what identifies it cannot change.
    fn reload(&mut self) -> Result<(), String> {
        let new = daemon::load(&self.config_path).map_err(|error| with_causes(&error))?;
        let identity = |config: &Config| (config.id.clone(), config.socket.clone(), config.status.clone());
        if identity(&new) != identity(&self.config) {
            return Err("id, socket and status of a shim stay what they are".to_owned());
        }
        self.output.log.configure(new.log.clone());
        if new.restart != self.config.restart && self.next_start.is_some() {
            self.reconsider_next_start(&new);
        }
        if new.health != self.config.health
            && let Some(run) = &mut self.run
        {
            run.probes = new.health.clone().map(|config| Probes::new(config, Instant::now()));
            self.status.health = run.probes.as_ref().map_or(Health::None, |probes| probes.health);
            self.config = new;
            self.publish();
        } else {
            self.config = new;
        }
        Ok(())
    }
}
