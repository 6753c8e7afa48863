//! The queue: receives messages, keeps them invisible while they are worked on, deletes them.

use std::time::Duration;

use aws_sdk_sqs::Client;
use aws_sdk_sqs::config::Builder;
use aws_sdk_sqs::config::retry::RetryConfig;
use aws_sdk_sqs::config::timeout::TimeoutConfig;
use aws_sdk_sqs::types::MessageSystemAttributeName;

use crate::net::aws;

/// Messages of one receive, by SQS's rules.
pub(super) const RECEIVED_MAX: usize = 10;

/// Long polling: the longest that SQS permits, so that an idle queue costs three requests a minute.
const WAIT: Duration = Duration::from_secs(20);

/// Time for a connection, and for a request: a long poll answers within [`WAIT`].
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(40);

/// Attempts at a delete; a message that stays is only read again after a restart.
const DELETE_TRIES: u32 = 5;

/// Pause before the second attempt; it doubles.
const DELETE_PAUSE: Duration = Duration::from_millis(200);

/// A queue and how long its messages stay invisible.
pub(super) struct Queue {
    client: Client,
    url: String,
    visibility: Duration,
}

/// A message that was received.
pub(super) struct Message {
    pub(super) id: String,
    pub(super) body: String,
    /// How often it was received.
    pub(super) count: String,
    receipt: String,
}

impl Queue {
    /// A queue at `url`; requests go to its host, which need not be AWS's.
    pub(super) fn new(base: &aws_config::SdkConfig, url: &str, visibility: Duration) -> Self {
        let timeouts = TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT).operation_attempt_timeout(REQUEST_TIMEOUT);
        let config =
            Builder::from(base).endpoint_url(endpoint(url)).retry_config(RetryConfig::disabled()).timeout_config(timeouts.build()).build();
        Self { client: Client::from_conf(config), url: url.to_owned(), visibility }
    }

    /// Waits for messages, [`WAIT`] at most; at most `count` of them.
    pub(super) async fn receive(&self, count: usize) -> Result<Vec<Message>, String> {
        let request = self
            .client
            .receive_message()
            .queue_url(&self.url)
            .max_number_of_messages(count.min(RECEIVED_MAX) as i32)
            .wait_time_seconds(WAIT.as_secs() as i32)
            .visibility_timeout(self.visibility.as_secs() as i32)
            .message_system_attribute_names(MessageSystemAttributeName::ApproximateReceiveCount);
        let answer = Box::pin(request.send()).await.map_err(|error| aws::explain(&error))?;
        let messages = answer.messages.unwrap_or_default().into_iter().filter_map(|message| {
            let mut attributes = message.attributes.unwrap_or_default();
            Some(Message {
                id: message.message_id.unwrap_or_default(),
                body: message.body.unwrap_or_default(),
                count: attributes.remove(&MessageSystemAttributeName::ApproximateReceiveCount).unwrap_or_default(),
                receipt: message.receipt_handle?,
            })
        });
        Ok(messages.collect())
    }

    /// Keeps a message invisible until it is dropped; never resolves.
    pub(super) async fn hold(&self, message: &Message) {
        loop {
            // Two more chances before it comes back.
            tokio::time::sleep(self.visibility / 3).await;
            if let Err(error) = self.change_visibility(message, self.visibility).await {
                tracing::warn!(message_id = message.id, error, "a message cannot be kept invisible; it may be read twice");
            }
        }
    }

    /// Lets others have a message at once.
    pub(super) async fn release(&self, message: &Message) {
        if let Err(error) = self.change_visibility(message, Duration::ZERO).await {
            tracing::info!(message_id = message.id, error, "a message comes back only after its visibility timeout");
        }
    }

    async fn change_visibility(&self, message: &Message, visibility: Duration) -> Result<(), String> {
        let request = self.client.change_message_visibility().queue_url(&self.url).receipt_handle(&message.receipt);
        let request = request.visibility_timeout(visibility.as_secs() as i32);
        Box::pin(request.send()).await.map(drop).map_err(|error| aws::explain(&error))
    }

    /// Deletes a message for good; whether that went well.
    pub(super) async fn delete(&self, message: &Message) -> bool {
        let mut pause = DELETE_PAUSE;
        for attempt in 1..=DELETE_TRIES {
            let request = self.client.delete_message().queue_url(&self.url).receipt_handle(&message.receipt);
            let Err(error) = Box::pin(request.send()).await else { return true };
            let error = aws::explain(&error);
            if attempt == DELETE_TRIES {
                tracing::warn!(message_id = message.id, error, "a message that is done cannot be deleted; it will come again");
            } else {
                tokio::time::sleep(pause).await;
                pause *= 2;
            }
        }
        false
    }
}

/// The scheme and host of a queue's address.
fn endpoint(url: &str) -> &str {
    let start = url.find("://").map_or(0, |at| at + 3);
    let end = url.get(start..).and_then(|rest| rest.find('/')).map_or(url.len(), |at| start + at);
    url.get(..end).unwrap_or(url)
}

/// The region that a queue's address names: `sqs.REGION.amazonaws.com`, the older `REGION.queue.amazonaws.com`, or a VPC
/// endpoint's `vpce-ID.sqs.REGION.vpce.amazonaws.com`.
pub(super) fn region(url: &str) -> Option<&str> {
    let host = endpoint(url).rsplit("//").next()?;
    if !host.contains(".amazonaws.com") {
        return None;
    }
    let parts: Vec<&str> = host.split('.').collect();
    let at = parts.iter().position(|part| matches!(*part, "sqs" | "sqs-fips" | "queue"))?;
    let region = if parts.get(at) == Some(&"queue") { parts.get(at.checked_sub(1)?)? } else { parts.get(at + 1)? };
    region.contains('-').then_some(region)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_of_a_queue_names_its_host_and_its_region() {
        for (url, host, found) in [
            ("https://sqs.eu-central-1.amazonaws.com/123456789012/q", "https://sqs.eu-central-1.amazonaws.com", Some("eu-central-1")),
            ("https://sqs.cn-north-1.amazonaws.com.cn/1/q", "https://sqs.cn-north-1.amazonaws.com.cn", Some("cn-north-1")),
            ("https://eu-west-1.queue.amazonaws.com/1/q", "https://eu-west-1.queue.amazonaws.com", Some("eu-west-1")),
            ("https://queue.amazonaws.com/1/q", "https://queue.amazonaws.com", None),
            (
                "https://vpce-1-2.sqs.us-east-2.vpce.amazonaws.com/1/q",
                "https://vpce-1-2.sqs.us-east-2.vpce.amazonaws.com",
                Some("us-east-2"),
            ),
            ("http://127.0.0.1:4566/1/sqs.us-east-1.x", "http://127.0.0.1:4566", None),
            ("http://localhost", "http://localhost", None),
        ] {
            assert_eq!((endpoint(url), region(url)), (host, found), "{url}");
        }
    }
}
