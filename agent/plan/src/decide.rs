//! The decision table, written once for every kind.
//!
//! A kind says by [`Resource`] what differs and what it needs; [`decide`] says what follows from that. No kind has a
//! rule of its own about holds, policies or data loss; about ownership only networks do, of which one may have to wait for
//! a link's name that another one or somebody else still holds.

use std::collections::BTreeSet;

use evenkeel_schema::{DataLossPolicy, DriftPolicy, Kind, Policy, Prune};

use crate::{Action, Drift, Key, Remedy, Sight, Why};

/// What a person allows for one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Steps that lose data are done without asking (`--yes`).
    pub allow_data_loss: bool,
    /// Objects whose manifest went are deleted, as far as their policy says so.
    pub prune: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options { allow_data_loss: false, prune: true }
    }
}

/// One desired object of a kind, seen in the light of everything else that is desired and observed.
pub(crate) trait Resource {
    type Observed;

    fn key(&self) -> Key;

    fn policy(&self) -> Policy;

    /// Names what would be in the way if it were there and not ours.
    fn place(&self) -> String {
        self.key().to_string()
    }

    /// Lists what must be there before the object can be.
    fn needs(&self) -> BTreeSet<Key>;

    /// Says why nothing may be done to it now, whatever differs: it cannot be, or a person wants it so.
    fn obstacle(&self, observed: Option<&Self::Observed>) -> Option<Why>;

    /// Lists what differs, field by field.
    fn drift(&self, observed: &Self::Observed) -> Vec<Drift>;

    /// Says why a repair of these differences would fail.
    fn stuck(&self, _drifts: &[Drift]) -> Option<String> {
        None
    }

    /// Says why it is not in sync although nothing is to be repaired.
    fn unsettled(&self, observed: &Self::Observed) -> Option<Why>;
}

/// Decides what is to be done to one desired object.
///
/// `held` is the reason for which its manifest is on hold; `missing_need` says in words what it needs that is not
/// there and will not be.
pub(crate) fn decide<R: Resource>(
    resource: &R,
    sight: &Sight<R::Observed>,
    held: Option<&str>,
    missing_need: impl FnOnce(&BTreeSet<Key>) -> Option<String>,
    options: &Options,
) -> Action {
    let policy = resource.policy();
    if let Some(message) = held {
        return Action::Hold(Why::Source { message: message.to_owned() });
    }
    let (observed, owned) = match sight {
        Sight::Unreadable(message) => return Action::Hold(Why::Unreadable { message: message.clone() }),
        Sight::Absent => (None, true),
        Sight::Found { observed, owned } => (Some(observed), *owned),
    };
    if !is_ours(owned, &policy) {
        return Action::Hold(not_ours(&resource.place()));
    }
    if let Some(why) = resource.obstacle(observed) {
        return Action::Hold(why);
    }
    let conflict = |message| Action::Hold(Why::Conflict { message });
    let Some(observed) = observed else {
        return missing_need(&resource.needs()).map_or(Action::Create, conflict);
    };
    let mut drifts = resource.drift(observed);
    if !owned {
        let taken_over = Drift {
            field: "policy.adopt".to_owned(),
            desired: Some("evenkeel's".to_owned()),
            observed: Some("not made by evenkeel".to_owned()),
            remedy: Remedy::Live,
        };
        drifts.insert(0, taken_over);
    }
    let Some(remedy) = drifts.iter().map(|drift| drift.remedy).max() else {
        return resource.unsettled(observed).map_or(Action::Keep, Action::Hold);
    };
    if policy.drift == DriftPolicy::Report {
        return Action::Hold(Why::ReportOnly { drifts });
    }
    if remedy == Remedy::DataLoss && !options.allow_data_loss && policy.data_loss != DataLossPolicy::Allow {
        return Action::Hold(Why::DataLoss { drifts });
    }
    if remedy > Remedy::Live
        && let Some(message) = missing_need(&resource.needs())
    {
        return conflict(message);
    }
    if let Some(message) = resource.stuck(&drifts) {
        return conflict(message);
    }
    match remedy {
        Remedy::Live | Remedy::Start | Remedy::Restart => Action::Update(drifts),
        Remedy::Replace | Remedy::DataLoss => Action::Replace(drifts),
    }
}

/// Tells whether what is there may be changed: evenkeel made it, or is told to take it over.
pub(crate) fn is_ours(owned: bool, policy: &Policy) -> bool {
    owned || policy.adopt
}

/// Says that something else is in the way.
pub(crate) fn not_ours(place: &str) -> Why {
    let message = format!("{place} is there already and evenkeel did not make it; `policy.adopt: true` takes it over");
    Why::NotOurs { message }
}

/// Decides about one object of the ledger that no manifest states any more.
pub(crate) fn decide_leaving<T>(key: &Key, sight: Option<&Sight<T>>, policy: &Policy, options: &Options) -> Action {
    match sight.unwrap_or(&Sight::Absent) {
        // Nothing is there: the executor has only the ledger to tidy.
        Sight::Absent => Action::Delete,
        Sight::Unreadable(message) => Action::Hold(Why::Unreadable { message: message.clone() }),
        Sight::Found { .. } if keeps(key, policy, options) => Action::Hold(Why::Kept),
        Sight::Found { owned: false, .. } => {
            let message = format!("what is in the place of {key} is not what evenkeel made; remove it by hand");
            Action::Hold(Why::NotOurs { message })
        }
        Sight::Found { owned: true, .. } => Action::Delete,
    }
}

/// Tells whether an object stays when its manifest goes.
pub(crate) fn keeps(key: &Key, policy: &Policy, options: &Options) -> bool {
    let default = if key.kind == Kind::Volume { Prune::Keep } else { Prune::Delete };
    !options.prune || policy.prune.unwrap_or(default) == Prune::Keep
}
