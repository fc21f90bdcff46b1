//! Credentials as `docker login` and `podman login` leave them.
//!
//! Only what stands in the files is used: no helper program is started. Secrets appear in no message.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::RegistryError;
use crate::image::ImageError;

/// Who asks a registry. Never shown.
#[derive(Clone, PartialEq, Eq)]
pub enum Login {
    Anonymous,
    Password {
        user: String,
        password: String,
    },
    /// A bearer token as it is sent.
    Token(String),
}

/// The credential for one registry, and where it was looked for.
pub struct Credentials {
    login: Login,
    origin: Origin,
}

enum Origin {
    /// No file has one.
    None {
        looked_in: Vec<PathBuf>,
    },
    File(PathBuf),
    /// A file leaves it to a program, which is not started.
    Helper {
        path: PathBuf,
        helper: String,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CredentialFile {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
    #[serde(default)]
    cred_helpers: BTreeMap<String, String>,
    #[serde(default)]
    creds_store: Option<String>,
}

#[derive(Default, Deserialize)]
struct Entry {
    #[serde(default)]
    auth: String,
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
    /// A bearer token as it is sent.
    #[serde(default)]
    registrytoken: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("tried", &self.tried()).finish_non_exhaustive()
    }
}

impl Credentials {
    /// Looks for a registry's credential; the first file that has one wins.
    pub fn find(files: &[PathBuf], registry: &str, repository: &str) -> Result<Credentials, ImageError> {
        let mut helper = None;
        for path in files {
            let Some(file) = read(path)? else { continue };
            let keys = keys(registry, repository);
            let entry = keys.iter().find_map(|key| file.auths.iter().find(|(other, _)| host_form(other) == *key));
            if let Some((_, entry)) = entry
                && let Some(login) = entry.login(path, registry)?
            {
                return Ok(Credentials { login, origin: Origin::File(path.clone()) });
            }
            let named =
                keys.iter().find_map(|key| file.cred_helpers.iter().find(|(other, _)| host_form(other) == *key));
            let left_to = named.map(|(_, helper)| helper.clone()).or_else(|| entry.and(file.creds_store.clone()));
            if let (None, Some(name)) = (&helper, left_to) {
                helper = Some(Origin::Helper { path: path.clone(), helper: name });
            }
        }
        let origin = helper.unwrap_or_else(|| Origin::None { looked_in: files.to_vec() });
        Ok(Credentials { login: Login::Anonymous, origin })
    }

    pub fn login(&self) -> &Login {
        &self.login
    }

    pub fn is_anonymous(&self) -> bool {
        self.login == Login::Anonymous
    }

    /// Says which credential was used, or where none was found.
    pub fn tried(&self) -> String {
        match &self.origin {
            Origin::File(path) => format!("the credential in {} was used", path.display()),
            Origin::Helper { path, helper } => format!(
                "{} leaves the credential to the helper `{helper}`, which is not started: \
                 put one into /etc/evenkeel/auth.json",
                path.display()
            ),
            Origin::None { looked_in } => {
                let files: Vec<String> = looked_in.iter().map(|path| path.display().to_string()).collect();
                format!("no credential for it was found in {}", files.join(", "))
            }
        }
    }
}

impl Entry {
    fn login(&self, path: &Path, registry: &str) -> Result<Option<Login>, ImageError> {
        if !self.registrytoken.is_empty() {
            return Ok(Some(Login::Token(self.registrytoken.clone())));
        }
        if !self.username.is_empty() {
            return Ok(Some(Login::Password { user: self.username.clone(), password: self.password.clone() }));
        }
        if self.auth.is_empty() {
            return Ok(None);
        }
        let decoded = STANDARD.decode(self.auth.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        match decoded.as_deref().and_then(|text| text.trim_end_matches('\0').split_once(':')) {
            Some((user, password)) => {
                Ok(Some(Login::Password { user: user.to_owned(), password: password.to_owned() }))
            }
            None => Err(RegistryError::CredentialEntry { path: path.to_owned(), registry: registry.to_owned() }.into()),
        }
    }
}

fn read(path: &Path) -> Result<Option<CredentialFile>, ImageError> {
    match fs::read(path) {
        Ok(text) => serde_json::from_slice(&text)
            .map(Some)
            .map_err(|source| RegistryError::CredentialFile { path: path.to_owned(), source }.into()),
        // Another user's home, or none, is no place to look in.
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(source) => Err(RegistryError::File { path: path.to_owned(), source }.into()),
    }
}

/// Gives the keys under which a file may hold the credential, the most exact first (containers-auth.json(5)).
fn keys(registry: &str, repository: &str) -> Vec<String> {
    let mut keys = Vec::new();
    let mut path = Some(repository);
    while let Some(prefix) = path {
        keys.push(format!("{registry}/{prefix}"));
        path = prefix.rsplit_once('/').map(|(prefix, _)| prefix);
    }
    keys.push(registry.to_owned());
    if registry == "docker.io" {
        keys.extend(["index.docker.io", "registry-1.docker.io"].map(str::to_owned));
    }
    keys
}

/// Strips what `docker login` writes around a host: `https://index.docker.io/v1/`.
fn host_form(key: &str) -> &str {
    let bare = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://"));
    match bare {
        Some(bare) => bare.split('/').next().unwrap_or(bare),
        None => key.trim_end_matches('/'),
    }
}
