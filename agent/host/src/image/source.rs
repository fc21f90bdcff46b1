//! What every source says of its image before the layers come.

use evenkeel_schema::{Digest, Platform};

use super::ImageError;
use super::layout::digest_of;
use super::manifest::{ConfigFile, Descriptor};
use super::platform;

/// An image as its source describes it: all of it but the layers' content.
#[derive(Clone, Debug)]
pub struct Described {
    /// Names the source in errors.
    pub source_name: String,
    /// What the source gave, and what a manifest pins.
    pub digest: Digest,
    pub index: Option<(Descriptor, Vec<u8>)>,
    pub manifest: (Descriptor, Vec<u8>),
    pub config: (Descriptor, Vec<u8>),
    pub parsed: ConfigFile,
    /// Lowest first.
    pub layers: Vec<DescribedLayer>,
}

/// A layer: its blob, and the digest of its uncompressed form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribedLayer {
    pub blob: Descriptor,
    pub diff_id: Digest,
    /// Where an archive holds it, unless that is where its digest says.
    pub member: Option<String>,
}

impl Described {
    /// Joins manifest and configuration, and checks that they belong together.
    pub fn new(
        source_name: &str,
        digest: Digest,
        index: Option<(Descriptor, Vec<u8>)>,
        manifest: (Descriptor, Vec<u8>),
        config: (Descriptor, Vec<u8>),
        layers: Vec<Descriptor>,
        members: Vec<String>,
    ) -> Result<Described, ImageError> {
        let found = digest_of(&config.1);
        if found != config.0.digest {
            return Err(ImageError::DigestMismatch {
                what: "the configuration".to_owned(),
                source_name: source_name.to_owned(),
                wanted: config.0.digest,
                found,
            });
        }
        let parsed = ConfigFile::parse(&config.1, &format!("the configuration of {source_name}"))?;
        if parsed.diff_ids().len() != layers.len() || layers.is_empty() {
            return Err(ImageError::LayerCount {
                source_name: source_name.to_owned(),
                layers: layers.len(),
                diff_ids: parsed.diff_ids().len(),
            });
        }
        let members = members.into_iter().map(Some).chain(std::iter::repeat(None));
        let layers = layers
            .into_iter()
            .zip(parsed.diff_ids())
            .zip(members)
            .map(|((blob, diff_id), member)| DescribedLayer { blob, diff_id: diff_id.clone(), member })
            .collect();
        Ok(Described { source_name: source_name.to_owned(), digest, index, manifest, config, parsed, layers })
    }

    /// Refuses an image for another platform than the one that was asked for by name.
    pub fn check_platform(&self, wanted: Option<&Platform>) -> Result<(), ImageError> {
        let found = self.parsed.platform();
        let stated = !found.os.is_empty() && !found.architecture.is_empty();
        match wanted {
            Some(wanted) if stated && !platform::fits(wanted, &found) => Err(ImageError::WrongPlatform {
                source_name: self.source_name.clone(),
                wanted: wanted.clone(),
                found: found.to_string(),
            }),
            Some(_) => Ok(()),
            None => {
                let machine = platform::machine();
                if stated && !platform::fits(&machine, &found) {
                    // Emulation (binfmt_misc) may well run it.
                    tracing::warn!(image = %self.source_name, %found, %machine, "the image is for another platform");
                }
                Ok(())
            }
        }
    }
}
