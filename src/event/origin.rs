//! What is known of a message beside its bytes.

use super::Kind;

/// One thing that may be known. Its field name is below `%hydrant`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OriginField {
    /// AWS account that owns a log group.
    Account,
    /// What a delivery carries as common attributes: a JSON object of texts.
    Attributes,
    /// Bucket of an object.
    Bucket,
    /// First line of an object, which names the columns of the others and is no event itself.
    Header,
    /// Key of an object.
    Key,
    /// CloudWatch log group.
    LogGroup,
    /// CloudWatch log stream.
    LogStream,
    /// Partition of a topic (Kafka), by its number.
    Partition,
    /// File that was read.
    Path,
    /// Delivery stream (Firehose), by its name.
    Stream,
    /// Topic (Kafka).
    Topic,
}

impl OriginField {
    /// All of them, in the order of their names.
    pub const ALL: [Self; 11] = [
        Self::Account,
        Self::Attributes,
        Self::Bucket,
        Self::Header,
        Self::Key,
        Self::LogGroup,
        Self::LogStream,
        Self::Partition,
        Self::Path,
        Self::Stream,
        Self::Topic,
    ];

    /// The field that it fills.
    pub fn name(self) -> &'static str {
        match self {
            Self::Account => "%hydrant.account",
            Self::Attributes => "%hydrant.attributes",
            Self::Bucket => "%hydrant.bucket",
            Self::Header => "%hydrant.header",
            Self::Key => "%hydrant.key",
            Self::LogGroup => "%hydrant.log_group",
            Self::LogStream => "%hydrant.log_stream",
            Self::Partition => "%hydrant.partition",
            Self::Path => "%hydrant.path",
            Self::Stream => "%hydrant.stream",
            Self::Topic => "%hydrant.topic",
        }
    }

    /// What its bytes are.
    pub fn kind(self) -> Kind {
        if self == Self::Attributes { Kind::Object } else { Kind::Text }
    }
}

/// What is known of some messages; made once per request, envelope or file, shared by their events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin([Option<Box<str>>; OriginField::ALL.len()]);

impl Origin {
    /// The same with one more thing known.
    #[must_use]
    pub fn with(mut self, field: OriginField, value: impl Into<Box<str>>) -> Self {
        self.0[field as usize] = Some(value.into());
        self
    }

    /// What is known of this.
    pub fn value(&self, field: OriginField) -> Option<&str> {
        self.0[field as usize].as_deref()
    }
}
