//! An archive in a store of objects: `bucket, prefix -> keys in their order, contents`.
//!
//! Address, region and keys are those of the sink `aws_s3` that writes to this bucket, or else those of the environment, as are
//! keys that are not known here. An object is fetched as a whole into a file without a name, so that a connection that breaks
//! costs nothing but time.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::types::Object;
use serde::Deserialize;

use crate::config::Section;
use crate::error::{Error, ErrorKind};
use crate::net::aws::{self, Keys};

/// Keys of one answer, by S3's rules.
const PAGE_KEYS: i32 = 1000;

/// Time for a connection, and for an answer to begin.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// Attempts at an object whose connection breaks; refusals are tried again by the client.
const TRIES: usize = 3;

/// Where a sink writes to. What else it says is not looked at.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Access {
    bucket: String,
    region: Option<String>,
    endpoint: Option<String>,
    path_style: Option<bool>,
    credentials: Option<Keys>,
}

/// A part of a bucket.
pub(super) struct Store {
    client: Client,
    bucket: String,
    prefix: String,
    /// The last key that was listed.
    after: Option<String>,
    is_listed: bool,
    begun_ms: i64,
    scratch: PathBuf,
}

impl Store {
    /// What lies below `bucket/prefix`, behind the key `after`. What was written at `begun_ms` or later is left out: it may be
    /// what the replay itself has written.
    ///
    /// # Errors
    /// No bucket is named.
    pub(super) async fn open(
        place: &str,
        written: Option<&Section>,
        scratch: &Path,
        begun_ms: i64,
        after: Option<String>,
    ) -> Result<Self, Error> {
        let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
        if bucket.is_empty() {
            return Err(Error::new(ErrorKind::Configuration, "read the archive", "expected s3://BUCKET/PREFIX"));
        }
        let sinks = written.and_then(|written| written.child("sinks")).map(|sinks| sinks.children()).unwrap_or_default();
        let sinks = sinks.into_iter().filter(|(_, sink)| sink.child("type").is_some_and(|kind| kind.node().text() == Some("aws_s3")));
        let access = sinks.filter_map(|(_, sink)| sink.read::<Access>().ok()).find(|access| access.bucket == bucket).unwrap_or_default();
        let region = access.region.or_else(|| access.endpoint.as_ref().map(|_| "us-east-1".to_owned()));
        let base = aws::base(access.credentials.as_ref().filter(|keys| keys.are_known()), region).await;
        let timeouts = TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT).read_timeout(ANSWER_TIMEOUT).build();
        let client = Client::from_conf(aws::store(&base, access.endpoint.as_deref(), access.path_style).timeout_config(timeouts).build());
        let (bucket, prefix) = (bucket.to_owned(), prefix.to_owned());
        Ok(Self { client, bucket, prefix, after, is_listed: false, begun_ms, scratch: scratch.to_owned() })
    }

    /// More keys of objects that are not empty; none if there are no more.
    ///
    /// # Errors
    /// What the store says.
    pub(super) async fn list(&mut self) -> Result<VecDeque<String>, Error> {
        let mut keys = VecDeque::new();
        while keys.is_empty() && !self.is_listed {
            let request = self.client.list_objects_v2().bucket(&self.bucket).prefix(&self.prefix).max_keys(PAGE_KEYS);
            let answer = Box::pin(request.set_start_after(self.after.clone()).send()).await;
            let answer = answer
                .map_err(|error| Error::new(ErrorKind::Protocol, "list the archive", aws::explain(&error)).with("bucket", &self.bucket))?;
            let page = answer.contents.unwrap_or_default();
            // What is cut off behind nothing would be asked for forever.
            self.is_listed = answer.is_truncated != Some(true) || page.is_empty();
            self.after = page.last().and_then(|object| object.key.clone()).or_else(|| self.after.take());
            let is_newer = |object: &Object| {
                let written_ms = object.last_modified.and_then(|time| time.to_millis().ok());
                written_ms.is_some_and(|written_ms| written_ms >= self.begun_ms)
            };
            let past = page.into_iter().filter(|object| object.size != Some(0) && !is_newer(object));
            keys.extend(past.filter_map(|object| object.key));
        }
        Ok(keys)
    }

    /// An object, from its beginning.
    pub(super) async fn fetch(&self, key: &str) -> io::Result<File> {
        let mut tries = 1;
        loop {
            match self.fetch_once(key).await {
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted && tries < TRIES => tries += 1,
                fetched => return fetched,
            }
        }
    }

    async fn fetch_once(&self, key: &str) -> io::Result<File> {
        let answer = Box::pin(self.client.get_object().bucket(&self.bucket).key(key).send()).await;
        let answer = answer.map_err(|error| io::Error::other(aws::explain(&error)))?;
        let path = self.scratch.join(format!("{}.object", std::process::id()));
        let mut file = OpenOptions::new().create(true).truncate(true).read(true).write(true).mode(0o600).open(&path)?;
        fs::remove_file(&path)?;
        let broken = |error: String| io::Error::new(io::ErrorKind::ConnectionAborted, error);
        let (mut body, mut bytes) = (answer.body, 0);
        while let Some(piece) = tokio::time::timeout(ANSWER_TIMEOUT, body.next()).await.map_err(|_| broken("nothing came".into()))? {
            let piece = piece.map_err(|error| broken(error.to_string()))?;
            file.write_all(&piece)?;
            bytes += piece.len() as i64;
        }
        if answer.content_length.is_some_and(|length| length != bytes) {
            return Err(broken(format!("the connection was closed after {bytes} bytes")));
        }
        file.rewind()?;
        Ok(file)
    }
}
