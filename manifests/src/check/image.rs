//! Images by themselves.

use evenkeel_schema::{ImageSource, ImageSpec};

use super::container::environment;
use crate::document::Document;
use crate::node::way;
use crate::problem::{Finding, Findings};
use crate::reference::Reference;

pub(super) fn check(document: &Document, image: &ImageSpec, findings: &mut Findings<'_>) {
    let reference = match &image.source {
        ImageSource::Registry(reference) => reference.parse::<Reference>(),
        ImageSource::Rootfs { config, .. } => {
            environment(document, &way!["spec", "config", "env"], &config.env, findings);
            return;
        }
        ImageSource::Archive(_) => return,
    };
    let at = document.value(&way!["spec", "reference"]);
    match (reference, &image.digest) {
        (Err(error), _) => findings.spoil(&[document.culprit()], Finding::new(at, error.to_string())),
        (Ok(reference), Some(digest)) if reference.digest().is_some_and(|own| own != digest) => {
            let at = document.value(&way!["spec", "digest"]);
            let finding = Finding::new(at, "`digest` is another one than the reference's own");
            findings.spoil(
                &[document.culprit()],
                finding.also(document.value(&way!["spec", "reference"]), "states a digest itself"),
            );
        }
        (Ok(_), _) => {}
    }
}
