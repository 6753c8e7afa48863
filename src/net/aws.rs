//! What the clients of AWS's SDK share: keys, region, and what an error means.
//!
//! In: settings as the configuration has them. Out: the base of a client's configuration. Without `credentials` the
//! default chain is asked (environment, profile, container, machine), which may use the network.

use std::fmt;

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_s3::config::{Builder, Credentials, SharedCredentialsProvider};
use aws_sdk_s3::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use serde::Deserialize;

use crate::config::Secret;

/// Keys that stand in the configuration.
#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Keys {
    /// Id of the key.
    access_key_id: String,
    /// The key.
    secret_access_key: Secret,
    /// Token of a temporary key.
    session_token: Option<Secret>,
}

impl Keys {
    /// Whether their secrets are known here.
    pub fn are_known(&self) -> bool {
        self.secret_access_key.is_known() && self.session_token.as_ref().is_none_or(Secret::is_known)
    }
}

/// The base of a client's configuration.
pub async fn base(keys: Option<&Keys>, region: Option<String>) -> SdkConfig {
    let region = region.map(Region::new);
    let Some(keys) = keys else {
        let loader = aws_config::defaults(BehaviorVersion::latest());
        return match region {
            Some(region) => loader.region(region).load().await,
            None => loader.load().await,
        };
    };
    let token = keys.session_token.as_ref().map(|token| token.reveal().to_owned());
    let credentials = Credentials::new(&keys.access_key_id, keys.secret_access_key.reveal(), token, None, "hydrant");
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .region(region)
        .build()
}

/// What a client of a store begins with. An `endpoint` is the address of another store than AWS; there the bucket stands in
/// the path unless `path_style` says otherwise.
pub fn store(base: &SdkConfig, endpoint: Option<&str>, path_style: Option<bool>) -> Builder {
    let builder = Builder::from(base).force_path_style(path_style.unwrap_or_else(|| endpoint.is_some()));
    match endpoint {
        Some(endpoint) => builder.endpoint_url(endpoint),
        None => builder,
    }
}

/// The status of the answer, if there was one.
pub fn status<E>(error: &SdkError<E>) -> Option<u16> {
    error.raw_response().map(|response| response.status().as_u16())
}

/// What went wrong, in one line.
pub fn explain<E: ProvideErrorMetadata + std::error::Error + 'static>(error: &SdkError<E>) -> String {
    let Some(status) = status(error) else { return DisplayErrorContext(error).to_string() };
    let meta = error.meta();
    let mut text = format!("{status} {}", meta.code().unwrap_or_default());
    if let Some(message) = meta.message() {
        // Writing into a String cannot fail.
        let _ = fmt::Write::write_fmt(&mut text, format_args!(": {message}"));
    }
    text
}
