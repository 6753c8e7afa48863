//! `aws_s3`: objects in Amazon S3 and in stores that speak its protocol.
//!
//! Out: one object a batch, lines of JSON (or text), gzip, zstd or plain. Its key is
//! `<prefix><stream>-<version>-<yyyy>-<MM>-<dd>-<HH>-<mm>-<ss>-<uuid><extension>` as Amazon Data Firehose makes it
//! (Developer Guide, "Amazon S3 object name format"; `encode::key_template`), of the arrival of its oldest
//! event. The uuid and all random strings follow from the batch's id, so another attempt writes the same object.
//!
//! * Buffering hints have Firehose's ranges: 1 to 128 MiB before compression, 0 to 900 s.
//! * `!{field:source.ip}` in the prefix gives each value objects of its own.
//! * With `error_prefix`, frames that their decoder could not read go there as `processing-failed`.
//! * Dead letters are shipped below `error_prefix` too, as what their destination's failures are called.
//! * `raw` rows carry the frame and under `hydrant` what is needed to replay it: source, decoder, time, position,
//!   sender. `json` rows carry ECS names.
//! * Once and not twice: `If-None-Match: *` (S3 API, "Conditional requests"). 412 after an attempt whose answer was
//!   lost means that the object is there; that it is ours is asked for (its metadata has the batch's id). A
//!   policy that permits no reading leaves the 122 random bits in the name as the proof.
//! * Large bodies go in parts; 409 and failures of a part begin the upload anew, what is left is aborted. Set a
//!   lifecycle rule for incomplete uploads all the same: a process that dies cannot abort.
//! * `AccessDenied`, `NoSuchBucket`, `InvalidAccessKeyId`, `SignatureDoesNotMatch`, redirects to another region and
//!   all other 4xx hold the destination: no event is the cause. `SlowDown`, 5xx, 408, 409, 429 and lost connections
//!   are tried again by `deliver`; the SDK's own retries are off.
//! * No ACL is sent: S3 has them disabled by default since 2023.
//!
//! Not supported: Parquet, object tags, assuming a role other than by the default chain. A private CA is
//! trusted through `SSL_CERT_FILE`.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_s3::Client as S3;
use aws_sdk_s3::config::Builder;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart, ServerSideEncryption, StorageClass};
use bytes::Bytes;
use serde::Deserialize;
use tokio::sync::OnceCell;

use super::{Client, Encoder, RowEncoder, Sink, SinkKind, Step, Transport};
use crate::batch::{Batching, Buffer, BufferRange, Limits, Sealed};
use crate::config::{ByteSize, Section, schema_of};
use crate::encode::alert::AlertForm;
use crate::encode::body::{Context, Form};
use crate::encode::compress::{Codec, Compression};
use crate::encode::key_template::{KeyContext, KeyTemplate, ObjectSuffix, Role, check_file_extension, time_zone};
use crate::encode::rows::{self, ERROR_MARK, Format, Partitioner, Rows};
use crate::error::{Diagnostics, Error};
use crate::net::aws::{self, Keys, status};
use crate::net::http_client::parse_address;
use crate::task::LocalFuture;

pub(super) struct AwsS3;

const SAMPLE: &str = r#"
type: aws_s3
bucket: security-logs
region: eu-central-1
prefix: "fw/!{timestamp:yyyy/MM/dd/HH}/"                    # Firehose's syntax, and !{field:source.ip}
error_prefix: "errors/!{firehose:error-output-type}/"       # for frames that could not be read; default: with the others
form: raw                                                   # raw: the frame and its metadata; json: ECS names
alert_form: ocsf                                            # ocsf: a Detection Finding; flat: an object with ECS names
compression: gzip                                           # gzip, zstd or none
buffer: { size_mb: 64, interval: 300s }
storage_class: STANDARD_IA
encryption: { type: "aws:kms", key: "alias/logs" }          # or { type: AES256 }
# For others than AWS, and for keys outside the default chain:
# endpoint: "https://minio:9000"
# credentials: { access_key_id: AKIA..., secret_access_key: "secret://env/S3_SECRET" }
"#;

/// Firehose's ranges and defaults for S3 (API reference, `BufferingHints`); it has no limit on events.
const BUFFER: BufferRange = BufferRange {
    bytes: 5 << 20,
    bytes_range: (1 << 20, 128 << 20),
    interval: Duration::from_secs(300),
    interval_max: Duration::from_secs(900),
    items: 10_000_000,
    items_max: 10_000_000,
};

/// Bytes of an object's key (S3 User Guide, "Object key naming guidelines").
const KEY_BYTES_MAX: usize = 1024;

/// Bytes of a part: at least 5 MiB by S3's rules; 16 parts make the largest batch.
const PART_BYTES: usize = 8 << 20;

/// S3's least size of a part that is not the last.
const PART_BYTES_MIN: usize = 5 << 20;

/// Above this a body goes in parts: one that fails then costs less than the whole.
const MULTIPART_THRESHOLD: usize = 32 << 20;

/// Time for a connection, and for one request with at most a whole body below the threshold.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(120);

/// Metadata key that holds the id of an object's batch.
const BATCH_KEY: &str = "hydrant-batch";

impl SinkKind for AwsS3 {
    fn name(&self) -> &'static str {
        "aws_s3"
    }

    fn sample(&self) -> &'static str {
        SAMPLE
    }

    fn schema(&self) -> schemars::Schema {
        schema_of::<Config>()
    }

    fn read(&self, section: &Section) -> Result<Box<dyn Sink>, Diagnostics> {
        let config: Config = section.read()?;
        let mut diagnostics = Diagnostics::new();
        let limits = diagnostics.absorb(config.buffer.limits(&BUFFER, section));
        let names = diagnostics.absorb(Names::read(section, &config));
        check(section, &config, &mut diagnostics);
        let (Some(limits), Some(names)) = (limits, names) else { return Err(diagnostics) };
        diagnostics.into_result(Box::new(Configured { shared: Arc::new(Shared { config, names }), limits }))
    }
}

#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct Config {
    /// Name of the bucket.
    bucket: String,
    /// Region; by default that of the environment.
    region: Option<String>,
    /// Address of another store than AWS.
    endpoint: Option<String>,
    /// Whether the bucket stands in the path instead of the host name; default: with an `endpoint`.
    path_style: Option<bool>,
    /// Keys; by default those of the environment, the profile, the container or the machine.
    credentials: Option<Keys>,
    /// Template of the beginning of keys.
    #[serde(default)]
    prefix: String,
    /// The same for frames that could not be read.
    error_prefix: Option<String>,
    /// Of the times in keys: an IANA name.
    #[serde(default = "Config::time_zone")]
    time_zone: String,
    /// Name in the key; by default the sink's.
    stream: Option<String>,
    /// Number in the key.
    #[serde(default = "Config::version")]
    version: u32,
    /// End of the key; by format and compression if not set.
    file_extension: Option<String>,
    /// Lines of JSON or of text.
    #[serde(default)]
    format: Lines,
    /// What the event is.
    #[serde(default)]
    form: Form,
    /// What an alert is: an OCSF Detection Finding, or an object with ECS names.
    #[serde(default)]
    alert_form: AlertForm,
    /// Whether `json` keeps the frame in `event.original`.
    #[serde(default)]
    keep_raw: bool,
    /// gzip, zstd or none.
    #[serde(default = "Config::compression")]
    compression: Compression,
    /// When an object is written.
    #[serde(default)]
    buffer: Buffer,
    /// S3's name of a storage class.
    storage_class: Option<String>,
    /// Encryption by the store.
    encryption: Option<Encryption>,
    /// Whether objects are written with `If-None-Match`; false for stores that refuse it.
    #[serde(default = "Config::conditional")]
    conditional: bool,
    /// Compressed size from which a body goes in parts.
    multipart_threshold: Option<ByteSize>,
}

impl Config {
    fn time_zone() -> String {
        "UTC".into()
    }

    fn version() -> u32 {
        1
    }

    fn compression() -> Compression {
        Compression::Gzip
    }

    fn conditional() -> bool {
        true
    }

    fn format(&self) -> Format {
        match self.format {
            Lines::Ndjson => Format::Ndjson,
            Lines::Text => Format::Text,
        }
    }
}

#[derive(Clone, Copy, Default, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Lines {
    #[default]
    Ndjson,
    Text,
}

#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct Encryption {
    /// `AES256`, `aws:kms` or `aws:kms:dsse`.
    r#type: String,
    /// Id, ARN or alias of a KMS key; by default the account's own.
    key: Option<String>,
}

fn check(section: &Section, config: &Config, diagnostics: &mut Diagnostics) {
    let place = |path: &[&str]| path.iter().try_fold(section.clone(), |section, key| section.child(key)).unwrap_or_else(|| section.clone());
    if let Some(class) = config.storage_class.as_deref().filter(|class| !StorageClass::values().contains(class)) {
        let help = format!("one of: {}", StorageClass::values().join(", "));
        diagnostics.push(place(&["storage_class"]).error(format!("`{class}` is not a storage class")).help(help));
    }
    if let Some(encryption) = &config.encryption {
        let is_kms = encryption.r#type.starts_with("aws:kms");
        if !["AES256", "aws:kms", "aws:kms:dsse"].contains(&encryption.r#type.as_str()) {
            diagnostics.push(place(&["encryption", "type"]).error("expected AES256, aws:kms or aws:kms:dsse"));
        } else if encryption.key.is_some() && !is_kms {
            diagnostics.push(place(&["encryption", "key"]).error("only KMS has keys to choose from"));
        }
    }
    if let Some(endpoint) = &config.endpoint {
        if let Err(error) = parse_address(endpoint) {
            diagnostics.push(place(&["endpoint"]).error(error.explain("https://host:port")));
        }
    } else if config.region.is_none() && config.credentials.is_some() {
        diagnostics.push(section.error("`region` is missing").help("region: eu-central-1"));
    }
    if let Some(size) = config.multipart_threshold.filter(|size| size.0 < PART_BYTES_MIN) {
        diagnostics.push(place(&["multipart_threshold"]).error(format!("{size} is below S3's least part, 5 MiB")));
    }
    if config.bucket.is_empty() || config.bucket.contains(['/', ' ']) {
        diagnostics.push(place(&["bucket"]).error("expected the name of a bucket, without a path"));
    }
}

/// How objects are called.
struct Names {
    prefix: Arc<KeyTemplate>,
    error_prefix: Option<KeyTemplate>,
    fields: Vec<String>,
    suffix: ObjectSuffix,
}

impl Names {
    fn read(section: &Section, config: &Config) -> Result<Self, Diagnostics> {
        let failed = |key: &str, message: String| section.child(key).unwrap_or_else(|| section.clone()).error(message).into();
        let mut diagnostics = Diagnostics::new();
        let zone = time_zone(&config.time_zone).map_err(|error| failed("time_zone", error.to_string()))?;
        let template = |key, text: &str, role| KeyTemplate::parse(text, role, zone.clone()).map_err(|error| failed(key, error.to_string()));
        let prefix = diagnostics.absorb(template("prefix", &config.prefix, Role::Prefix));
        let fields = prefix.as_ref().and_then(|prefix| {
            let fields = rows::field_names(prefix);
            diagnostics.absorb(fields.map_err(|name| failed("prefix", format!("{name} does not exist here; use !{{field:source.ip}}"))))
        });
        let error_prefix = config.error_prefix.as_deref();
        let error_prefix = diagnostics.absorb(error_prefix.map(|text| template("error_prefix", text, Role::ErrorPrefix)).transpose());
        let codec = Codec::from(config.compression);
        let default = || format!("{}{}", config.format().file_extension(), codec.file_extension());
        let extension = config.file_extension.clone().unwrap_or_else(default);
        diagnostics.absorb(check_file_extension(&extension).map_err(|error| failed("file_extension", error.to_string())));
        let own_name = section.path().rsplit('.').next().filter(|name| !name.is_empty()).unwrap_or("hydrant");
        let stream = config.stream.clone().unwrap_or_else(|| own_name.to_owned());
        let suffix = ObjectSuffix { stream, version: config.version, extension, zone: zone.clone() };
        match (prefix, fields, error_prefix) {
            (Some(prefix), Some(fields), Some(error_prefix)) => {
                diagnostics.into_result(Self { prefix: Arc::new(prefix), error_prefix, fields, suffix })
            }
            _ => Err(diagnostics),
        }
    }

    /// The key of a batch's object: the same for every attempt.
    fn key(&self, batch: &Sealed) -> Result<String, String> {
        let (prefix, error_output_type) = match (&self.error_prefix, batch.partition.strip_prefix(ERROR_MARK)) {
            (Some(error_prefix), Some(error_output_type)) => (error_prefix, error_output_type),
            _ => (&*self.prefix, ""),
        };
        let context = KeyContext { oldest_arrival_ms: batch.oldest_ms, seed: batch.id, error_output_type };
        let mut key = String::new();
        prefix.render(&batch.partition, &context, &mut key).map_err(|error| error.to_string())?;
        self.suffix.write(&context, &mut key);
        if key.len() > KEY_BYTES_MAX { Err(format!("the key has {} bytes, S3 takes {KEY_BYTES_MAX}", key.len())) } else { Ok(key) }
    }
}

struct Shared {
    config: Config,
    names: Names,
}

struct Configured {
    shared: Arc<Shared>,
    limits: Limits,
}

impl Sink for Configured {
    fn batching(&self) -> Batching {
        let config = &self.shared.config;
        Batching {
            bytes_max: self.limits.bytes,
            items_max: self.limits.items,
            item_bytes_max: BUFFER.bytes_range.1,
            interval: self.limits.interval,
            codec: config.compression.into(),
            head: config.format().head(),
            separator: config.format().separator(),
            tail: config.format().tail(),
        }
    }

    fn wants(&self, canonical: &[String]) -> Vec<String> {
        let mut names = self.shared.names.fields.clone();
        names.push("%hydrant.peer".to_owned());
        if self.shared.config.form == Form::Json {
            names.extend_from_slice(canonical);
        }
        names
    }

    fn wants_of_alerts(&self) -> &'static [&'static str] {
        self.shared.config.alert_form.wants()
    }

    fn encoder(&self, context: &Context) -> Box<dyn Encoder> {
        let Shared { config, names } = &*self.shared;
        let body = rows::body((config.form, config.alert_form), config.keep_raw, true, context);
        let partitioner = Partitioner::new(&names.prefix, names.error_prefix.is_some(), context);
        RowEncoder::boxed(Rows::new(config.format(), body), partitioner)
    }

    fn transport(&self) -> Result<Transport, Error> {
        Ok(Transport::Client(Rc::new(Uploader { shared: self.shared.clone(), client: OnceCell::new() })))
    }
}

/// The uploads of one shard.
struct Uploader {
    shared: Arc<Shared>,
    /// Made with the first batch: it belongs to the shard's runtime, and the default chain asks the network.
    client: OnceCell<S3>,
}

impl Client for Uploader {
    fn write<'a>(&'a self, batch: &'a Sealed) -> LocalFuture<'a, Step> {
        Box::pin(async move {
            let key = match self.shared.names.key(batch) {
                Ok(key) => key,
                Err(why) => return Step::Rejected(why),
            };
            let client = self.client.get_or_init(|| Box::pin(connect(&self.shared.config))).await;
            let upload = Upload { client, config: &self.shared.config, key: &key, batch };
            let threshold = upload.config.multipart_threshold.map_or(MULTIPART_THRESHOLD, |size| size.0);
            let result = if batch.body.len() > threshold { upload.in_parts().await } else { upload.whole().await };
            match result {
                Ok(()) => Step::Stored,
                Err(Failure::Exists) => upload.is_ours().await,
                Err(Failure::Hold(why)) => Step::Hold(why),
                Err(Failure::Rejected(why)) => Step::Rejected(why),
                Err(Failure::Retry(why)) => Step::Retry(why, None),
            }
        })
    }
}

async fn connect(config: &Config) -> S3 {
    let region = config.region.clone().or_else(|| config.endpoint.as_ref().map(|_| "us-east-1".to_owned()));
    let mut builder = Builder::from(&aws::base(config.credentials.as_ref(), region).await);
    if let Some(endpoint) = &config.endpoint {
        builder = builder.endpoint_url(endpoint);
    }
    let timeouts = TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT).operation_attempt_timeout(REQUEST_TIMEOUT);
    let builder = builder
        .force_path_style(config.path_style.unwrap_or_else(|| config.endpoint.is_some()))
        .retry_config(RetryConfig::disabled())
        .timeout_config(timeouts.build());
    S3::from_conf(builder.build())
}

/// Why an object was not written.
enum Failure {
    /// There is one of this name.
    Exists,
    /// See [`Step`].
    Hold(String),
    /// See [`Step`].
    Rejected(String),
    /// See [`Step`].
    Retry(String),
}

/// One attempt at one object.
struct Upload<'a> {
    client: &'a S3,
    config: &'a Config,
    key: &'a str,
    batch: &'a Sealed,
}

impl Upload<'_> {
    fn condition(&self) -> Option<String> {
        self.config.conditional.then(|| "*".to_owned())
    }

    fn encryption(&self) -> (Option<ServerSideEncryption>, Option<String>) {
        let encryption = self.config.encryption.as_ref();
        (encryption.map(|encryption| encryption.r#type.as_str().into()), encryption.and_then(|encryption| encryption.key.clone()))
    }

    fn id(&self) -> String {
        format!("{:032x}", self.batch.id)
    }

    async fn whole(&self) -> Result<(), Failure> {
        let (encryption, encryption_key) = self.encryption();
        let request = self
            .client
            .put_object()
            .bucket(&self.config.bucket)
            .key(self.key)
            .body(ByteStream::from(self.batch.body.clone()))
            .content_type(self.config.format().content_type())
            .set_content_encoding(self.batch.codec.content_encoding().map(str::to_owned))
            .metadata(BATCH_KEY, self.id())
            .set_storage_class(self.config.storage_class.as_deref().map(StorageClass::from))
            .set_server_side_encryption(encryption)
            .set_ssekms_key_id(encryption_key)
            .set_if_none_match(self.condition());
        Box::pin(request.send()).await.map(drop).map_err(|error| failure(&error))
    }

    async fn in_parts(&self) -> Result<(), Failure> {
        let (encryption, encryption_key) = self.encryption();
        let request = self
            .client
            .create_multipart_upload()
            .bucket(&self.config.bucket)
            .key(self.key)
            .content_type(self.config.format().content_type())
            .set_content_encoding(self.batch.codec.content_encoding().map(str::to_owned))
            .metadata(BATCH_KEY, self.id())
            .set_storage_class(self.config.storage_class.as_deref().map(StorageClass::from))
            .set_server_side_encryption(encryption)
            .set_ssekms_key_id(encryption_key);
        let begun = Box::pin(request.send()).await.map_err(|error| failure(&error))?;
        let Some(id) = begun.upload_id() else {
            return Err(Failure::Retry("the answer has no upload id".into()));
        };
        let result = self.parts(id).await;
        if result.is_err() {
            let abort = self.client.abort_multipart_upload().bucket(&self.config.bucket).key(self.key).upload_id(id);
            if let Err(error) = Box::pin(abort.send()).await {
                tracing::warn!(key = self.key, error = %DisplayErrorContext(&error), "an upload in parts cannot be aborted");
            }
        }
        result
    }

    async fn parts(&self, id: &str) -> Result<(), Failure> {
        let mut parts = Vec::new();
        for (index, start) in (0..self.batch.body.len()).step_by(PART_BYTES).enumerate() {
            let number = index as i32 + 1;
            let body: Bytes = self.batch.body.slice(start..(start + PART_BYTES).min(self.batch.body.len()));
            let request = self.client.upload_part().bucket(&self.config.bucket).key(self.key).upload_id(id).part_number(number);
            let sent = Box::pin(request.body(ByteStream::from(body)).send()).await.map_err(|error| failure(&error))?;
            let part = CompletedPart::builder().part_number(number).set_e_tag(sent.e_tag().map(str::to_owned));
            parts.push(part.set_checksum_crc32(sent.checksum_crc32().map(str::to_owned)).build());
        }
        let request = self
            .client
            .complete_multipart_upload()
            .bucket(&self.config.bucket)
            .key(self.key)
            .upload_id(id)
            .multipart_upload(CompletedMultipartUpload::builder().set_parts(Some(parts)).build())
            .set_if_none_match(self.condition());
        Box::pin(request.send()).await.map(drop).map_err(|error| failure(&error))
    }

    /// There is an object of this name: an earlier attempt's, unless its metadata says otherwise.
    async fn is_ours(&self) -> Step {
        let request = self.client.head_object().bucket(&self.config.bucket).key(self.key);
        match Box::pin(request.send()).await {
            Ok(head) => match head.metadata().and_then(|metadata| metadata.get(BATCH_KEY)) {
                Some(id) if *id != self.id() => Step::Hold(format!("another object is called {}", self.key)),
                _ => Step::Stored,
            },
            Err(error) if status(&error) == Some(403) => Step::Stored,
            Err(error) => Step::Retry(format!("an object of this name was there, now: {}", DisplayErrorContext(&error)), None),
        }
    }
}

fn failure<E: ProvideErrorMetadata + std::error::Error + 'static>(error: &SdkError<E>) -> Failure {
    let Some(status) = status(error) else { return unanswered(error) };
    let meta = error.meta();
    let code = meta.code().unwrap_or_default();
    let why = format!("{status} {code}: {}", meta.message().unwrap_or_default());
    match (status, code) {
        // minio#19442: 304 for 412.
        (304 | 412, _) => Failure::Exists,
        (_, "EntityTooLarge") => Failure::Rejected(why),
        // On the way, not in the set-up. `RequestTimeout` and `SlowDown` are 400 and 503 at AWS, others at other stores.
        (_, "BadDigest" | "IncompleteBody" | "NoSuchUpload" | "RequestTimeout" | "SlowDown" | "XAmzContentSHA256Mismatch")
        | (200..=299 | 408 | 409 | 429 | 500.., _) => Failure::Retry(why),
        _ => Failure::Hold(why),
    }
}

/// Without an answer: the network is tried again; keys and certificates are a person's business.
fn unanswered<E: std::error::Error + 'static>(error: &SdkError<E>) -> Failure {
    let why = DisplayErrorContext(error).to_string();
    let is_set_up = matches!(error, SdkError::ConstructionFailure(_)) || why.contains("redential") || why.contains("ertificate");
    if is_set_up { Failure::Hold(why) } else { Failure::Retry(why) }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::VecDeque;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tokio::task::LocalSet;

    use super::super::golden::{self, FRAMES};
    use super::*;

    const CONFIG: &str = "bucket: logs\nregion: eu-central-1\n";

    fn keys(yaml: &str) -> Vec<(String, String)> {
        let section = Section::parse(std::path::Path::new("t.yaml"), yaml).unwrap();
        let config: Config = section.read().unwrap();
        let names = Names::read(&section, &config).unwrap_or_else(|error| panic!("{error}"));
        let (_, sealed) = golden::seal(&AwsS3, yaml, FRAMES);
        sealed.iter().map(|batch| (names.key(batch).unwrap(), golden::text(batch))).collect()
    }

    #[test]
    fn keys_and_rows_are_exactly_these() {
        let yaml = "bucket: b\nregion: r\nprefix: 'fw/!{timestamp:yyyy/MM/dd/HH}/'\nversion: 3\nstream: my fw\n";
        let found = keys(yaml);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].0, "fw/2026/11/21/06/my%20fw-3-2026-11-21-06-00-01-01234567-89ab-4def-8123-456789abcdf0.ndjson.gz");
        assert_eq!(found[0].1, RAW.concat());
        let (_, sealed) = golden::seal(&AwsS3, "bucket: b\nregion: r\nform: json\ncompression: zstd\n", FRAMES);
        let members = |n| format!("\"hydrant\":{{\"source\":\"fw\",\"decoder\":\"palo_alto\",\"position\":\"1:4{n}\"");
        let expected = golden::NDJSON_JSON.split_inclusive('\n').zip(0..).map(|(line, n)| match n {
            3 => line.to_owned(),
            _ => line.replace("\"hydrant\":{\"source\":\"fw\"", &members(n)),
        });
        assert_eq!(golden::text(&sealed[0]), expected.collect::<String>());
    }

    const RAW: &[&str] = &[
        r#"{"message":"<134>Nov 21 06:00:00 fw-1 deny \"a\"\tb","hydrant":{"source":"fw","decoder":"palo_alto","time":"2026-11-21T06:00:00.123Z","position":"1:40","rule_ids":["r1"]}}"#,
        "\n",
        r#"{"srcip":"10.0.0.9","hydrant":{"source":"fw","decoder":"palo_alto","time":"2026-11-21T06:00:01.000Z","position":"1:41"}}"#,
        "\n",
        r#"{"message":"�\u0000 junk\n","hydrant":{"source":"fw","decoder":"palo_alto","time":"2026-11-21T06:00:01.000Z","position":"1:42","flaw":"malformed","raw_base64":"/wAganVuawo="}}"#,
        "\n",
        golden::FINDING,
    ];

    #[test]
    fn fields_and_unreadable_frames_get_objects_of_their_own() {
        let yaml = "bucket: b\nregion: r\nprefix: 'x/!{field:source.ip}/!{timestamp:yyyy}/'\n\
                    error_prefix: 'bad/!{firehose:error-output-type}/'\nfile_extension: .gz\ntime_zone: Asia/Tokyo\n";
        let found = keys(yaml);
        let uuid = |last: &str| format!("hydrant-1-2026-11-21-15-00-01-01234567-89ab-4def-8123-456789abcd{last}.gz");
        let mut prefixes: Vec<String> = found.iter().map(|(key, _)| key[..key.find("hydrant-1").unwrap()].to_owned()).collect();
        prefixes.sort();
        assert_eq!(prefixes, ["bad/processing-failed/", "x/10.0.0.9/2026/", "x/10.1.2.3/2026/"]);
        let mut names: Vec<&str> = found.iter().map(|(key, _)| &key[key.find("hydrant-1").unwrap()..]).collect();
        names.sort_unstable();
        assert_eq!(names, [uuid("f0"), uuid("f1"), uuid("f2")]);
        let (_, mut sealed) = golden::seal(&AwsS3, yaml, FRAMES);
        let letters = Sealed { partition: "!splunk-failed".into(), ..sealed.remove(0) };
        let section = Section::parse(std::path::Path::new("t.yaml"), yaml).unwrap();
        let key = Names::read(&section, &section.read().unwrap()).unwrap().key(&letters).unwrap();
        assert!(key.starts_with("bad/splunk-failed/hydrant-1-"), "{key}");
        let bad = found.iter().find(|(key, _)| key.starts_with("bad/")).unwrap();
        assert!(bad.1.contains("\"flaw\":\"malformed\"") && bad.1.lines().count() == 1, "{}", bad.1);
    }

    #[test]
    fn mistakes_are_named() {
        for (yaml, message) in [
            ("bucket: a/b", "bucket: expected the name"),
            ("bucket: b\nbuffer: { size_mb: 129 }", "buffer.size_mb: a batch has 1.0MiB to 128.0MiB"),
            ("bucket: b\nbuffer: { interval: 901s }", "buffer.interval: the longest interval is 900 s"),
            ("bucket: b\nbuffer: { size: 2MiB, size_mb: 2 }", "`size` says this already"),
            ("bucket: b\nprefix: '!{timestamp:QQQQQQ}'", "prefix: "),
            ("bucket: b\nprefix: '!{partitionKeyFromQuery:k}'", "does not exist here"),
            ("bucket: b\nerror_prefix: '!{timestamp:yyyy}'", "must tell the kind of error"),
            ("bucket: b\nfile_extension: gz", "a file extension begins with `.`"),
            ("bucket: b\nstorage_class: CHEAP", "`CHEAP` is not a storage class"),
            ("bucket: b\nencryption: { type: AES256, key: k }", "only KMS has keys"),
            ("bucket: b\nencryption: { type: rot13 }", "expected AES256, aws:kms"),
            ("bucket: b\nendpoint: minio", "endpoint: this is not an address"),
            ("bucket: b\nendpoint: 'https://u:swordfish@h'", "endpoint: a name and password in an address"),
            ("bucket: b\ncredentials: { access_key_id: a, secret_access_key: s }", "`region` is missing"),
            ("bucket: b\nmultipart_threshold: 1MiB", "below S3's least part"),
        ] {
            let error = golden::read(&AwsS3, yaml).err().unwrap_or_default();
            assert!(error.contains(message), "{yaml}: {error}");
        }
    }

    /// A server that gives prepared answers and keeps the heads of the requests. Without an answer it hangs up.
    async fn serve(listener: TcpListener, answers: Rc<RefCell<VecDeque<String>>>, heads: Rc<RefCell<Vec<String>>>) {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut bytes = Vec::new();
            let mut buffer = vec![0; 1 << 20];
            let (head, length) = loop {
                let count = stream.read(&mut buffer).await.unwrap();
                bytes.extend_from_slice(&buffer[..count]);
                let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
                let head = String::from_utf8(bytes[..end].to_vec()).unwrap().to_lowercase();
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).map_or(0, |text| text.parse().unwrap());
                break (head, end + 4 + length);
            };
            let mut got = bytes.len();
            while got < length {
                got += stream.read(&mut buffer).await.unwrap();
            }
            heads.borrow_mut().push(head);
            let Some(answer) = answers.borrow_mut().pop_front().filter(|answer| !answer.is_empty()) else { continue };
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    }

    fn answer(status: u16, headers: &str, body: &str) -> String {
        format!("HTTP/1.1 {status} X\r\n{headers}content-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
    }

    fn refusal(status: u16, code: &str) -> String {
        answer(status, "", &format!("<Error><Code>{code}</Code><Message>m</Message></Error>"))
    }

    /// What attempts at one batch come to, and the heads of all requests.
    fn attempts(options: &str, answers: &[String], batch: Option<Sealed>, count: usize) -> (Vec<String>, Vec<String>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        LocalSet::new().block_on(&runtime, async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let endpoint = format!("http://{}", listener.local_addr().unwrap());
            let (heads, answers) = (Rc::default(), Rc::new(RefCell::new(answers.iter().cloned().collect())));
            tokio::task::spawn_local(serve(listener, answers, Rc::clone(&heads)));
            let yaml = format!("{CONFIG}endpoint: '{endpoint}'\ncredentials: {{ access_key_id: A, secret_access_key: S }}\n{options}");
            let (sink, mut sealed) = golden::seal(&AwsS3, &yaml, FRAMES);
            let batch = batch.unwrap_or_else(|| sealed.remove(0));
            let Transport::Client(client) = sink.transport().unwrap() else { panic!("not a client") };
            let mut steps = Vec::new();
            for _ in 0..count {
                steps.push(format!("{:?}", client.write(&batch).await));
            }
            (steps, heads.take())
        })
    }

    #[test]
    fn an_object_is_put_with_its_headers() {
        let options = "encryption: { type: 'aws:kms', key: k1 }\nstorage_class: STANDARD_IA\n";
        let (steps, heads) = attempts(options, &[answer(200, "", "")], None, 1);
        assert_eq!(steps, ["Stored"]);
        let head = &heads[0];
        assert!(
            head.starts_with("put /logs/2026/11/21/06/hydrant-1-2026-11-21-06-00-01-01234567-89ab-4def-8123-456789abcdf0.ndjson.gz?"),
            "{head}"
        );
        for line in [
            "content-type: application/x-ndjson",
            "content-encoding: gzip",
            "if-none-match: *",
            "x-amz-meta-hydrant-batch: 0123456789abcdef0123456789abcdf0",
            "x-amz-storage-class: standard_ia",
            "x-amz-server-side-encryption: aws:kms",
            "x-amz-server-side-encryption-aws-kms-key-id: k1",
        ] {
            assert!(head.lines().any(|found| found == line), "{line} in {head}");
        }
        assert!(head.contains("authorization: aws4-hmac-sha256 credential=a/") && !head.contains("x-amz-acl"), "{head}");
    }

    #[test]
    fn refusals_hold_and_what_passes_is_tried_again() {
        for (status, code, expected) in [
            (403, "AccessDenied", "Hold"),
            (403, "InvalidAccessKeyId", "Hold"),
            (403, "SignatureDoesNotMatch", "Hold"),
            (404, "NoSuchBucket", "Hold"),
            (301, "PermanentRedirect", "Hold"),
            (400, "InvalidArgument", "Hold"),
            (400, "RequestTimeout", "Retry"),
            (400, "BadDigest", "Retry"),
            (409, "ConditionalRequestConflict", "Retry"),
            (429, "TooManyRequests", "Retry"),
            (500, "InternalError", "Retry"),
            (503, "SlowDown", "Retry"),
            (400, "EntityTooLarge", "Rejected"),
        ] {
            let (steps, heads) = attempts("", &[refusal(status, code)], None, 1);
            assert!(steps[0].starts_with(&format!("{expected}(\"{status} {code}: m\"")), "{status} {code}: {}", steps[0]);
            assert_eq!(heads.len(), 1, "the SDK does not try again by itself");
        }
    }

    #[test]
    fn an_object_that_is_there_after_a_lost_answer_is_stored() {
        let id = |id: &str| answer(200, &format!("x-amz-meta-hydrant-batch: {id}\r\n"), "").replace("content-length: 0\r\n", "");
        let own = id("0123456789abcdef0123456789abcdf0");
        let lost = String::new();
        for (head, expected) in [
            (own, "Stored"),
            (id("00"), "Hold"),
            (answer(403, "", "").replace("content-length: 0\r\n", ""), "Stored"),
            (answer(404, "", "").replace("content-length: 0\r\n", ""), "Retry"),
        ] {
            let (steps, heads) = attempts("", &[lost.clone(), refusal(412, "PreconditionFailed"), head], None, 2);
            assert!(steps[0].starts_with("Retry") && steps[1].starts_with(expected), "{expected}: {steps:?}");
            let line = |index: usize| heads[index].lines().next().unwrap().replace("head ", "put ").split('?').next().unwrap().to_owned();
            assert_eq!((line(0), line(0)), (line(1), line(2).replace(" http/1.1", "")), "every attempt has the same key");
        }
    }

    fn large() -> Sealed {
        let (_, mut sealed) = golden::seal(&AwsS3, CONFIG, FRAMES);
        Sealed { body: vec![7; PART_BYTES + 10].into(), ..sealed.remove(0) }
    }

    #[test]
    fn a_large_body_goes_in_parts_and_a_failed_one_is_aborted() {
        let begun = answer(200, "", "<InitiateMultipartUploadResult><UploadId>u1</UploadId></InitiateMultipartUploadResult>");
        let part = answer(200, "etag: \"e\"\r\n", "");
        let done = answer(200, "", "<CompleteMultipartUploadResult></CompleteMultipartUploadResult>");
        let options = "multipart_threshold: 5MiB\n";
        let (steps, heads) = attempts(options, &[begun.clone(), part.clone(), part.clone(), done], Some(large()), 1);
        assert_eq!(steps, ["Stored"]);
        let methods = |heads: &[String]| -> Vec<String> { heads.iter().map(|head| head[..head.find(' ').unwrap()].to_owned()).collect() };
        assert_eq!(methods(&heads), ["post", "put", "put", "post"]);
        assert!(heads[0].contains("x-amz-meta-hydrant-batch") && !heads[0].contains("if-none-match"));
        assert!(heads[1].contains("partnumber=1") && heads[2].contains("partnumber=2") && heads[3].contains("if-none-match: *"));
        let (steps, heads) = attempts(options, &[begun, part, refusal(503, "SlowDown"), answer(204, "", "")], Some(large()), 1);
        assert!(steps[0].starts_with("Retry"), "{steps:?}");
        assert_eq!(methods(&heads), ["post", "put", "put", "delete"]);
    }
}
