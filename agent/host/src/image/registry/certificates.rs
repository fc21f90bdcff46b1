//! Certificates of authorities that are trusted for one registry only.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use reqwest::Certificate;

use super::RegistryError;
use crate::image::ImageError;

/// Reads every `*.crt` and `*.pem` of a registry's directories, looked for with and without the port.
pub fn find(directories: &[PathBuf], registry: &str) -> Result<Vec<Certificate>, ImageError> {
    let host = registry.rsplit_once(':').map(|(host, _)| host);
    let mut certificates = Vec::new();
    for directory in directories {
        for name in [Some(registry), host].into_iter().flatten() {
            for path in files(&directory.join(name))? {
                let text =
                    fs::read_to_string(&path).map_err(|source| RegistryError::File { path: path.clone(), source })?;
                for certificate in split(&text) {
                    let parsed = Certificate::from_pem(certificate.as_bytes());
                    certificates
                        .push(parsed.map_err(|source| RegistryError::BadCertificate { path: path.clone(), source })?);
                }
            }
        }
    }
    Ok(certificates)
}

fn files(directory: &Path) -> Result<Vec<PathBuf>, ImageError> {
    let failed = |source| ImageError::from(RegistryError::File { path: directory.to_owned(), source });
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        Err(error) => return Err(failed(error)),
    };
    let paths: io::Result<Vec<PathBuf>> = entries.map(|entry| Ok(entry?.path())).collect();
    let is_certificate =
        |path: &PathBuf| path.extension().is_some_and(|extension| extension == "crt" || extension == "pem");
    Ok(paths.map_err(failed)?.into_iter().filter(is_certificate).collect())
}

/// Parts a bundle, of which the client would read the first certificate only.
fn split(text: &str) -> impl Iterator<Item = String> + '_ {
    const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
    text.split(BEGIN).skip(1).map(|rest| format!("{BEGIN}{rest}"))
}
