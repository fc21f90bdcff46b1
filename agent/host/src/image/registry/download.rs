//! Blobs from a registry: streamed into the store, taken up again where a connection broke.

use std::io::Write;
use std::sync::Arc;

use evenkeel_shim::fail_point;
use reqwest::header::CONTENT_RANGE;
use reqwest::{Method, Response, StatusCode};
use tokio::sync::mpsc;

use super::transport::{Asked, BACKOFF, Failure, body, retried};
use super::{RegistryError, Session};
use crate::image::ImageError;
use crate::image::blob::BlobWriter;
use crate::image::manifest::{DOCUMENT_LIMIT, Descriptor};
use crate::image::store::{Hold, blocking};

/// What an attempt has to bring before a connection counts as good for something.
const WORTHWHILE: u64 = 64 << 10;

impl Session {
    /// Fetches a blob into a writer, which has hashed all of it at the end. Its caller compares digest and size.
    ///
    /// `hold` is kept while a thread writes, even when nobody awaits this any more.
    pub async fn download(
        &self,
        blob: &Descriptor,
        writer: BlobWriter,
        hold: Arc<Hold>,
        tell: &(dyn Fn(u64) + Sync),
    ) -> Result<BlobWriter, ImageError> {
        let mut writer = writer;
        let mut pauses = BACKOFF.into_iter();
        loop {
            let before = writer.length();
            let (back, result) = self.attempt(blob, writer, hold.clone(), tell).await?;
            writer = back;
            let Err(failure) = result else { return Ok(writer) };
            if writer.length() >= before.saturating_add(WORTHWHILE) {
                pauses = BACKOFF.into_iter();
            }
            let pause = match &failure {
                Interrupted::Failed(failure) => pauses.next().and_then(|backoff| failure.pause(backoff)),
                Interrupted::TooLong { .. } => None,
            };
            let Some(pause) = pause else {
                return Err(self.gave_up(blob, writer.length(), failure));
            };
            tracing::debug!(blob = %blob.digest, received = writer.length(), "the download is taken up again");
            tokio::time::sleep(pause).await;
        }
    }

    async fn attempt(
        &self,
        blob: &Descriptor,
        mut writer: BlobWriter,
        hold: Arc<Hold>,
        tell: &(dyn Fn(u64) + Sync),
    ) -> Result<(BlobWriter, Result<(), Interrupted>), ImageError> {
        let from = writer.length();
        if from > 0 && from >= blob.size {
            // Nothing is left to ask for.
            return Ok((writer, Ok(())));
        }
        fail_point!("registry.blob");
        let mut response = match self.blob(blob, from).await {
            Ok(response) => response,
            Err(failure) => return Ok((writer, Err(Interrupted::Failed(failure)))),
        };
        // A registry that knows no ranges sends all of it again.
        if from > 0 && !continues(&response, from) {
            writer = blocking(move || {
                let restarted = writer.restart();
                restarted.map_err(ImageError::io("write", writer.path()))?;
                Ok(writer)
            })
            .await?;
        }
        let mut received = writer.length();
        let (chunks, receiver) = mpsc::channel(32);
        let writing = blocking(move || Ok((write_all(receiver, writer)?, hold)));
        let feeding = async move {
            while let Some(chunk) = response.chunk().await.map_err(|error| Interrupted::Failed(error.into()))? {
                received += chunk.len() as u64;
                if received > blob.size {
                    return Err(Interrupted::TooLong { received });
                }
                // A writer that is gone has an error of its own.
                if chunks.send(chunk).await.is_err() {
                    break;
                }
                fail_point!("registry.chunk");
                tell(received);
            }
            Ok(())
        };
        let (written, fed) = tokio::join!(writing, feeding);
        Ok((written?.0, fed))
    }

    /// Asks for a blob: of the registry, then where its descriptor says that it is too.
    async fn blob(&self, blob: &Descriptor, from: u64) -> Result<Response, Failure> {
        let asked = Asked { accept: "", from };
        let mut answer = self.transport.ask(Method::GET, &format!("blobs/{}", blob.digest), asked).await;
        for url in &blob.urls {
            match answer {
                Err(Failure::Status { status: 400..500, .. }) => {
                    answer = self.transport.ask_elsewhere(url, asked).await;
                }
                other => return other,
            }
        }
        answer
    }

    /// Fetches a small blob into memory.
    pub(super) async fn document(&self, blob: &Descriptor) -> Result<Vec<u8>, ImageError> {
        fail_point!("registry.document");
        let what = format!("configuration {} of {}", blob.digest, self.what());
        let size = usize::try_from(blob.size).unwrap_or(usize::MAX);
        if size > DOCUMENT_LIMIT {
            return Err(self.failed(what, Failure::TooLong { limit: DOCUMENT_LIMIT }));
        }
        let fetch = || async { body(self.blob(blob, 0).await?, size).await };
        match retried(fetch).await {
            Ok(bytes) if bytes.len() == size => Ok(bytes),
            Ok(bytes) => Err(self.other_size(what, blob, bytes.len() as u64)),
            Err(Failure::TooLong { .. }) => Err(self.other_size(what, blob, blob.size.saturating_add(1))),
            Err(failure) => Err(self.failed(what, failure)),
        }
    }

    fn other_size(&self, what: String, blob: &Descriptor, found: u64) -> ImageError {
        ImageError::SizeMismatch { what, source_name: self.registry.clone(), wanted: blob.size, found }
    }

    fn gave_up(&self, blob: &Descriptor, received: u64, interrupted: Interrupted) -> ImageError {
        let what = format!("layer {} of {}", blob.digest, self.what());
        let (registry, size, silence) = (self.registry.clone(), blob.size, self.silence);
        match interrupted {
            Interrupted::TooLong { received } => self.other_size(what, blob, received),
            Interrupted::Failed(Failure::Request(source)) if received > 0 || source.is_body() || source.is_decode() => {
                let (timeout, source) = (source.is_timeout(), Failure::Request(source));
                if timeout {
                    RegistryError::Stalled { registry, what, received, size, silence, source }.into()
                } else {
                    RegistryError::BrokenOff { registry, what, received, size, source }.into()
                }
            }
            Interrupted::Failed(failure) => self.failed(what, failure),
        }
    }
}

/// Why an attempt ended early.
enum Interrupted {
    Failed(Failure),
    TooLong { received: u64 },
}

/// Tells whether an answer goes on at `from`.
fn continues(response: &Response, from: u64) -> bool {
    let range = response.headers().get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
    // Some leave the header out, and are compared by the digest.
    let begins =
        range.is_none_or(|range| range.strip_prefix("bytes ").unwrap_or(range).starts_with(&format!("{from}-")));
    response.status() == StatusCode::PARTIAL_CONTENT && begins
}

/// Writes chunks as they come, until there are no more or one cannot be written.
fn write_all<B: AsRef<[u8]>>(mut chunks: mpsc::Receiver<B>, mut writer: BlobWriter) -> Result<BlobWriter, ImageError> {
    while let Some(chunk) = chunks.blocking_recv() {
        let written = writer.write_all(chunk.as_ref());
        written.map_err(ImageError::io("write", writer.path()))?;
    }
    Ok(writer)
}
