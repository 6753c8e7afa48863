//! Sockets and what runs over them: listeners, TLS, an HTTP server and client, request signatures, capped
//! decompression. No component lives here; sources, sinks and the admin API are built from these parts.
//!
//! Everything runs on the current-thread runtime of one shard. Futures need not be `Send`; tasks are started
//! with `spawn_local`, so the caller runs inside a `tokio::task::LocalSet`.
//!
//! # What is promised on bad input
//! - No part panics, and no part allocates more than a limit that the caller can see.
//! - A peer that is silent, slow or endless costs one connection for a bounded time: each wait has a timeout,
//!   each buffer a cap, each listener a connection cap.
//! - Text from a peer is data. The parsers ([`listen::proxy_header`], [`sigv4`], [`certificate`]) are pure functions.
//! - A mistake in a certificate, key or address is named with its file or its text.

#[cfg(feature = "aws")]
pub mod aws;
pub mod certificate;
pub mod dns;
pub mod download;
pub mod handover;
pub mod http_auth;
pub mod http_client;
pub mod http_server;
pub mod inflate;
pub mod listen;
pub mod rate;
pub mod sigv4;
pub mod tls;
pub mod udp;
