//! What the manifests say, after every check that needs more than one object.

use std::collections::BTreeMap;
use std::path::PathBuf;

use evenkeel_schema::{
    ContainerSpec, ImageSpec, Key, Kind, Name, NetworkSpec, Object, VolumeSpec, implicit_image_name,
};
use serde::{Deserialize, Serialize};

/// The whole of what a host is to be: four maps by name.
///
/// References hold: every image, network, volume and container that an object names is in its map, images that a
/// container states by registry reference included (their name is then derived from the reference).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Desired {
    pub source: Source,
    pub images: BTreeMap<Name, Object<ImageSpec>>,
    pub volumes: BTreeMap<Name, Object<VolumeSpec>>,
    pub networks: BTreeMap<Name, Object<NetworkSpec>>,
    pub containers: BTreeMap<Name, Object<ContainerSpec>>,
    /// Objects that nothing may be done to, with the reason. The object itself, where it was ever applied, stands in
    /// its map as it was applied last; where it never was, it stands in none.
    pub held: BTreeMap<Key, String>,
    /// The file that each object stands in, relative to the source.
    pub files: BTreeMap<Key, PathBuf>,
}

/// Where the manifests came from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Source {
    /// The directory or file that was read; empty for "as last applied".
    pub path: PathBuf,
    /// A git commit's abbreviated hash, or the first digits of the content's digest.
    pub revision: String,
}

impl Desired {
    /// Lists the keys of every object, held ones without a map entry not included.
    pub fn keys(&self) -> impl Iterator<Item = Key> + '_ {
        let images = self.images.keys().map(|name| Key::new(Kind::Image, name.clone()));
        let volumes = self.volumes.keys().map(|name| Key::new(Kind::Volume, name.clone()));
        let networks = self.networks.keys().map(|name| Key::new(Kind::Network, name.clone()));
        let containers = self.containers.keys().map(|name| Key::new(Kind::Container, name.clone()));
        images.chain(volumes).chain(networks).chain(containers)
    }

    /// Finds the image that a container states in `image`: by its name, or the implicit one of a registry reference.
    pub fn image_of(&self, spec: &ContainerSpec) -> Option<&Name> {
        let named = self.images.get_key_value(spec.image.as_str());
        let implicit = || self.images.get_key_value(&implicit_image_name(&spec.image));
        named.or_else(implicit).map(|(name, _)| name)
    }

    /// Tells whether an object of this key stands in its map.
    pub fn contains(&self, key: &Key) -> bool {
        match key.kind {
            Kind::Image => self.images.contains_key(&key.name),
            Kind::Volume => self.volumes.contains_key(&key.name),
            Kind::Network => self.networks.contains_key(&key.name),
            Kind::Container => self.containers.contains_key(&key.name),
        }
    }

    /// Tells whether nothing at all is desired.
    pub fn is_empty(&self) -> bool {
        self.keys().next().is_none() && self.held.is_empty()
    }
}
