//! Volumes: what differs between a manifest and a directory.

use std::collections::BTreeSet;

use evenkeel_schema::{Kind, Name, Object, Policy, VolumeSpec};

use crate::decide::Resource;
use crate::{Differences, Drift, Key, ObservedVolume, Remedy, Why};

/// One desired volume.
pub(crate) struct Volume<'a> {
    pub name: &'a Name,
    pub object: &'a Object<VolumeSpec>,
}

impl Resource for Volume<'_> {
    type Observed = ObservedVolume;

    fn key(&self) -> Key {
        Key::new(Kind::Volume, self.name.clone())
    }

    fn policy(&self) -> Policy {
        self.object.policy
    }

    fn needs(&self) -> BTreeSet<Key> {
        BTreeSet::new()
    }

    fn obstacle(&self, _: Option<&ObservedVolume>) -> Option<Why> {
        None
    }

    fn drift(&self, observed: &ObservedVolume) -> Vec<Drift> {
        let mut differences = Differences::new();
        if !observed.directory {
            let (desired, found) = ("a directory".to_owned(), "something else".to_owned());
            differences.push("directory", Some(desired), Some(found), Remedy::DataLoss);
            return differences.into_vec();
        }
        let spec = &self.object.spec;
        differences.field("owner", &spec.owner, &observed.owner, Remedy::Live);
        differences.field("mode", &spec.mode, &observed.mode, Remedy::Live);
        differences.into_vec()
    }

    fn unsettled(&self, _: &ObservedVolume) -> Option<Why> {
        None
    }
}
