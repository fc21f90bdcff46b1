//! Images from a real registry and from archives that skopeo made.

mod archives;
mod registries;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use evenkeel_host::image::{ImageError, Quiet, RegistrySettings, Store};
use evenkeel_plan::{ObservedImage, Sight};
use evenkeel_schema::{ImageSource, ImageSpec, Name, PullPolicy};
use evenkeel_tests::{Sandbox, sandboxed};

/// A store in a sandbox, with the runtime that drives it.
pub struct Site<'a> {
    pub sandbox: &'a Sandbox,
    pub store: Store,
    runtime: tokio::runtime::Runtime,
}

/// Runs a test on a store in namespaces of its own.
pub fn on_site(test: impl FnOnce(&Site)) {
    sandboxed(|sandbox| {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let settings = RegistrySettings {
            credential_files: vec![sandbox.directory().join("auth.json"), sandbox.directory().join("other.json")],
            certificate_directories: vec![sandbox.directory().join("certs.d")],
            // Tags move within one test.
            freshness: Duration::ZERO,
            ..RegistrySettings::default()
        };
        let store = Store::with_registries(&sandbox.paths(), settings).expect("a store");
        test(&Site { sandbox, store, runtime: runtime.expect("a runtime") });
    });
}

impl Site<'_> {
    pub fn path(&self, name: &str) -> PathBuf {
        self.sandbox.directory().join(name)
    }

    /// Makes an empty directory.
    pub fn directory(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir(&path).expect("a directory in the sandbox");
        path
    }

    pub fn fetch(&self, image: &str, spec: &ImageSpec) -> Result<ObservedImage, ImageError> {
        self.runtime.block_on(self.store.fetch(&name(image), spec, &Quiet))
    }

    /// Fetches what must be refused, and gives the whole message with its causes.
    #[track_caller]
    pub fn refused(&self, image: &str, spec: &ImageSpec) -> String {
        evenkeel_host::error_chain(&self.fetch(image, spec).expect_err("it was fetched"))
    }

    /// Fetches several images at the same time.
    pub fn fetch_all(&self, images: &[(&str, &ImageSpec)]) -> Vec<ObservedImage> {
        let spawn = |(image, spec): &(&str, &ImageSpec)| {
            let (store, image, spec) = (self.store.clone(), name(image), (*spec).clone());
            self.runtime.spawn(async move { store.fetch(&image, &spec, &Quiet).await })
        };
        let tasks: Vec<_> = images.iter().map(spawn).collect();
        let finished = tasks.into_iter().map(|task| self.runtime.block_on(task).expect("no panic"));
        finished.map(|image| image.expect("the image")).collect()
    }

    #[track_caller]
    pub fn observe(&self, image: &str, spec: &ImageSpec) -> ObservedImage {
        match self.runtime.block_on(self.store.observe(&name(image), Some(spec))) {
            Sight::Found { observed, owned: true } => observed,
            other => panic!("{other:?}"),
        }
    }

    pub fn is_absent(&self, image: &str) -> bool {
        self.runtime.block_on(self.store.observe(&name(image), None)) == Sight::Absent
    }

    pub fn remove(&self, image: &str) {
        self.runtime.block_on(self.store.remove(&name(image))).expect(image);
    }

    /// Reads a file of an image as its topmost layer that has it shows it.
    #[track_caller]
    pub fn read(&self, image: &ObservedImage, file: &str) -> String {
        let paths = self.store.layer_directories(image).into_iter().map(|layer| layer.join(file));
        let found = paths.into_iter().find_map(|path| fs::read_to_string(path).ok());
        found.unwrap_or_else(|| panic!("no layer holds {file}"))
    }

    /// Lists what a directory of the store holds, scratch directories left out.
    pub fn stored(&self, directory: &str) -> Vec<String> {
        entries(&self.sandbox.paths().root().join(directory))
    }
}

pub fn entries(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("a directory of the store");
    let names = entries.map(|entry| entry.expect("its entry").file_name().into_string().expect("UTF-8"));
    names.filter(|name| !name.starts_with(".tmp-")).collect()
}

pub fn name(name: &str) -> Name {
    name.parse().expect("an image's name")
}

pub fn registry_image(reference: &str) -> ImageSpec {
    spec(ImageSource::Registry(reference.to_owned()))
}

pub fn archive_image(path: &Path) -> ImageSpec {
    spec(ImageSource::Archive(path.to_owned()))
}

fn spec(source: ImageSource) -> ImageSpec {
    ImageSpec { source, digest: None, pull: PullPolicy::Missing, platform: None, insecure: false }
}
