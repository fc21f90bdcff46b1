//! Blobs from a registry: streamed into the store, taken up again where a connection broke.

use std::io::{self, Write};
use std::sync::Arc;

use evenkeel_shim::fail_point;
use futures_util::StreamExt;
use oci_client::client::BlobResponse;
use oci_client::errors::{DigestError, OciDistributionError};
use oci_client::manifest::OciDescriptor;
use tokio::sync::{OwnedRwLockReadGuard, mpsc};

use super::error::is_transient;
use super::{BACKOFF, RegistryError, Session};
use crate::image::ImageError;
use crate::image::layout::BlobWriter;
use crate::image::manifest::Descriptor;
use crate::image::store::blocking;

/// The longest configuration that is read into memory.
const DOCUMENT_LIMIT: u64 = 16 << 20;

impl Session {
    /// Fetches a blob into a writer, which has hashed all of it at the end. Its caller compares digest and size.
    ///
    /// `shared` is kept while a thread writes, even when nobody awaits this any more.
    pub async fn download(
        &self,
        blob: &Descriptor,
        writer: BlobWriter,
        shared: Arc<OwnedRwLockReadGuard<()>>,
        tell: &(dyn Fn(u64) + Sync),
    ) -> Result<BlobWriter, ImageError> {
        let mut writer = writer;
        let mut pauses = BACKOFF.into_iter();
        loop {
            let before = writer.length();
            let (back, result) = self.attempt(blob, writer, shared.clone(), tell).await?;
            writer = back;
            let Err(failure) = result else { return Ok(writer) };
            if writer.length() > before {
                // The connection was good for something: begin to count anew.
                pauses = BACKOFF.into_iter();
            }
            let pause = pauses.next().filter(|_| failure.is_transient());
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
        shared: Arc<OwnedRwLockReadGuard<()>>,
        tell: &(dyn Fn(u64) + Sync),
    ) -> Result<(BlobWriter, Result<(), Failure>), ImageError> {
        let descriptor = OciDescriptor {
            digest: blob.digest.to_string(),
            urls: (!blob.urls.is_empty()).then(|| blob.urls.clone()),
            ..OciDescriptor::default()
        };
        let received = writer.length();
        fail_point!("registry.blob");
        let stream = if received == 0 {
            self.client.pull_blob_stream(&self.reference, &descriptor).await
        } else if received >= blob.size {
            // Nothing is left to ask for.
            return Ok((writer, Ok(())));
        } else {
            match self.client.pull_blob_stream_partial(&self.reference, &descriptor, received, None).await {
                Ok(BlobResponse::Partial(stream)) => Ok(stream),
                // A registry that knows no ranges sends all of it again.
                Ok(BlobResponse::Full(stream)) => {
                    writer = blocking(move || {
                        let mut writer = writer;
                        let restarted = writer.restart();
                        restarted.map_err(ImageError::io("write", writer.path()))?;
                        Ok(writer)
                    })
                    .await?;
                    Ok(stream)
                }
                Err(error) => Err(error),
            }
        };
        let mut stream = match stream {
            Ok(stream) => stream.stream,
            Err(error) => return Ok((writer, Err(Failure::Request(error)))),
        };
        let mut received = writer.length();
        let (chunks, receiver) = mpsc::channel(32);
        let writing = blocking(move || {
            let written = write_all(receiver, writer);
            drop(shared);
            written
        });
        let feeding = async move {
            while let Some(chunk) = stream.next().await {
                let chunk = chunk.map_err(Failure::Stream)?;
                received += chunk.len() as u64;
                if received > blob.size {
                    return Err(Failure::TooLong { received });
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
        Ok((written?, fed))
    }

    /// Fetches a small blob into memory.
    pub(super) async fn document(&self, blob: &Descriptor) -> Result<Vec<u8>, ImageError> {
        fail_point!("registry.document");
        let what = format!("configuration {} of {}", blob.digest, self.what());
        let too_long = |found| ImageError::SizeMismatch {
            what: format!("configuration {}", blob.digest),
            source_name: self.what(),
            wanted: blob.size.min(DOCUMENT_LIMIT),
            found,
        };
        if blob.size > DOCUMENT_LIMIT {
            return Err(too_long(blob.size));
        }
        let mut pauses = BACKOFF.into_iter();
        loop {
            let failure = match self.client.pull_blob_stream(&self.reference, blob.digest.as_str()).await {
                Err(error) => Failure::Request(error),
                Ok(mut stream) => {
                    let mut bytes = Vec::new();
                    loop {
                        match stream.next().await {
                            None => return Ok(bytes),
                            Some(Ok(chunk)) => bytes.extend_from_slice(&chunk),
                            Some(Err(error)) => break Failure::Stream(error),
                        }
                        if bytes.len() as u64 > blob.size {
                            return Err(too_long(bytes.len() as u64));
                        }
                    }
                }
            };
            match pauses.next().filter(|_| failure.is_transient()) {
                Some(pause) => tokio::time::sleep(pause).await,
                None => return Err(self.gave_up_on(what, blob, 0, failure)),
            }
        }
    }

    fn gave_up(&self, blob: &Descriptor, received: u64, failure: Failure) -> ImageError {
        self.gave_up_on(format!("layer {} of {}", blob.digest, self.what()), blob, received, failure)
    }

    fn gave_up_on(&self, what: String, blob: &Descriptor, received: u64, failure: Failure) -> ImageError {
        let registry = self.registry.clone();
        match failure {
            Failure::Request(error) => self.failed(what, error),
            Failure::TooLong { received } => {
                ImageError::SizeMismatch { what, source_name: registry, wanted: blob.size, found: received }
            }
            Failure::Stream(source) if is_mismatch(&source) => RegistryError::Content { registry, what, source }.into(),
            Failure::Stream(source) => {
                RegistryError::BrokenOff { registry, what, received, size: blob.size, source }.into()
            }
        }
    }
}

/// Why an attempt ended early.
enum Failure {
    Request(OciDistributionError),
    Stream(io::Error),
    TooLong { received: u64 },
}

impl Failure {
    fn is_transient(&self) -> bool {
        match self {
            Failure::Request(error) => is_transient(error),
            Failure::Stream(error) => !is_mismatch(error),
            Failure::TooLong { .. } => false,
        }
    }
}

/// Tells whether the client broke off because a digest was wrong.
fn is_mismatch(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<DigestError>())
}

/// Writes chunks as they come, until there are no more or one cannot be written.
fn write_all<B: AsRef<[u8]>>(mut chunks: mpsc::Receiver<B>, mut writer: BlobWriter) -> Result<BlobWriter, ImageError> {
    while let Some(chunk) = chunks.blocking_recv() {
        let written = writer.write_all(chunk.as_ref());
        written.map_err(ImageError::io("write", writer.path()))?;
    }
    Ok(writer)
}
