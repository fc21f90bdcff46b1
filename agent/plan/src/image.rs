//! Images: what differs between a manifest and the image in the store.

use std::collections::BTreeSet;

use evenkeel_schema::{Digest, ImageSource, ImageSpec, Kind, Name, Object, Policy, PullPolicy};

use crate::decide::Resource;
use crate::{Differences, Drift, Key, ObservedImage, Remedy, Why};

/// One desired image.
pub(crate) struct Image<'a> {
    pub name: &'a Name,
    pub object: &'a Object<ImageSpec>,
}

impl Image<'_> {
    /// Tells whether the registry may not be asked for what is lacking.
    fn may_not_pull(&self) -> bool {
        self.object.spec.pull == PullPolicy::Never && matches!(self.object.spec.source, ImageSource::Registry(_))
    }

    /// Tells whether the source is known to give the very content that the store holds.
    fn same_content(&self, observed: &ObservedImage) -> bool {
        let known = [self.object.spec.digest.as_ref(), upstream(observed)];
        known.into_iter().flatten().next() == Some(&observed.digest)
    }

    fn source_drift(&self, observed: &ObservedImage, differences: &mut Differences) {
        let remedy = if self.same_content(observed) { Remedy::Live } else { Remedy::Replace };
        match (&self.object.spec.source, &observed.source) {
            (ImageSource::Registry(desired), ImageSource::Registry(observed)) => {
                differences.field("reference", desired, observed, remedy);
            }
            (ImageSource::Archive(desired), ImageSource::Archive(observed)) => {
                differences.field("archive", &desired.display().to_string(), &observed.display().to_string(), remedy);
            }
            (
                ImageSource::Rootfs { path: desired, config: desired_config },
                ImageSource::Rootfs { path: observed, config: observed_config },
            ) => {
                differences.field("rootfs", &desired.display().to_string(), &observed.display().to_string(), remedy);
                if desired_config != observed_config {
                    // Not shown: a configuration's environment may hold secrets.
                    let (desired, observed) = ("changed, not shown".to_owned(), "as before".to_owned());
                    differences.push("config", Some(desired), Some(observed), Remedy::Replace);
                }
            }
            (desired, observed) => {
                differences.push("source", Some(describe(desired)), Some(describe(observed)), remedy);
            }
        }
    }
}

fn upstream(observed: &ObservedImage) -> Option<&Digest> {
    observed.upstream.as_ref().and_then(|answer| answer.as_ref().ok())
}

fn describe(source: &ImageSource) -> String {
    match source {
        ImageSource::Registry(reference) => format!("reference {reference}"),
        ImageSource::Archive(path) => format!("archive {}", path.display()),
        ImageSource::Rootfs { path, .. } => format!("rootfs {}", path.display()),
    }
}

/// Names the field of a manifest that states the source.
fn source_field(source: &ImageSource) -> &'static str {
    match source {
        ImageSource::Registry(_) => "reference",
        ImageSource::Archive(_) => "archive",
        ImageSource::Rootfs { .. } => "rootfs",
    }
}

impl Resource for Image<'_> {
    type Observed = ObservedImage;

    fn key(&self) -> Key {
        Key::new(Kind::Image, self.name.clone())
    }

    fn policy(&self) -> Policy {
        self.object.policy
    }

    fn needs(&self) -> BTreeSet<Key> {
        BTreeSet::new()
    }

    fn obstacle(&self, observed: Option<&ObservedImage>) -> Option<Why> {
        let lacks = match observed {
            None => true,
            Some(observed) => !self.drift(observed).is_empty() && !self.same_content(observed),
        };
        let message =
            || format!("the store does not hold {} as stated, and `pull` is never", describe(&self.object.spec.source));
        (self.may_not_pull() && lacks).then(|| Why::Conflict { message: message() })
    }

    fn drift(&self, observed: &ObservedImage) -> Vec<Drift> {
        let mut differences = Differences::new();
        self.source_drift(observed, &mut differences);
        let pin = self.object.spec.digest.as_ref();
        if let Some(pin) = pin {
            differences.field("digest", pin, &observed.digest, Remedy::Replace);
        }
        // A pinned digest says all; what the source has besides is of no concern.
        if let (None, Some(now)) = (pin, upstream(observed)) {
            differences.field(source_field(&self.object.spec.source), now, &observed.digest, Remedy::Replace);
        }
        for damage in &observed.damage {
            differences.push("store", Some(damage.clone()), None, Remedy::Live);
        }
        differences.into_vec()
    }

    fn unsettled(&self, observed: &ObservedImage) -> Option<Why> {
        match &observed.upstream {
            // Whoever wants the newest at every pass has to be told that nobody knows it.
            Some(Err(message)) if self.object.spec.pull == PullPolicy::Always => {
                Some(Why::Unreadable { message: message.clone() })
            }
            _ => None,
        }
    }
}
