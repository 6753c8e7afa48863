//! TLS settings as people write them, turned into rustls configurations.
//!
//! In: PEM files (RFC 7468) named in the configuration. Out: a rustls `ServerConfig` or `ClientConfig`, or an
//! [`Error`] that names the file and what is wrong with it. The cryptography is aws-lc-rs, given explicitly, so
//! that another library's process-wide default cannot replace it. TLS 1.2 and 1.3; nothing older.
//!
//! Certificates are replaced while we run: [`ServerTls::reload_if_changed`] looks at size and modification
//! time and, if the new files are good, uses them for new connections. If they are not, the old ones stay.
//! A half-written pair (new certificate, old key) is such a case and heals itself at the next look.
//!
//! Not supported: encrypted keys, certificate revocation lists, OCSP, PKCS#12, key stores.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme, SupportedProtocolVersion, version};
use serde::Deserialize;

use crate::clock;
use crate::error::{Error, ErrorKind, Retry};
use crate::net::certificate::Certificate;

/// Bytes of a PEM file: the bundle of all public authorities has 220 KB.
const PEM_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// The oldest TLS version that is spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
pub enum TlsVersion {
    /// TLS 1.2 (RFC 5246): what firewalls of the last ten years can do.
    #[default]
    #[serde(rename = "1.2")]
    V1_2,
    /// TLS 1.3 (RFC 8446).
    #[serde(rename = "1.3")]
    V1_3,
}

impl TlsVersion {
    fn supported(self) -> &'static [&'static SupportedProtocolVersion] {
        static BOTH: [&SupportedProtocolVersion; 2] = [&version::TLS13, &version::TLS12];
        static NEWEST: [&SupportedProtocolVersion; 1] = [&version::TLS13];
        match self {
            Self::V1_2 => &BOTH,
            Self::V1_3 => &NEWEST,
        }
    }
}

/// TLS of a listener.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TlsServer {
    /// PEM file with the certificate, then its intermediates.
    pub cert: PathBuf,
    /// PEM file with the private key (PKCS#8, PKCS#1 or SEC1, not encrypted).
    pub key: PathBuf,
    /// PEM file with the authorities whose client certificates are accepted. If set, a client must show one.
    pub client_ca: Option<PathBuf>,
    /// Oldest TLS version, "1.2" or "1.3".
    #[serde(default)]
    pub min_version: TlsVersion,
}

/// TLS towards a destination.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TlsClient {
    /// PEM file with the authorities to trust instead of the system's.
    pub ca: Option<PathBuf>,
    /// PEM file with our client certificate.
    pub cert: Option<PathBuf>,
    /// PEM file with the key of our client certificate.
    pub key: Option<PathBuf>,
    /// Whether the server's certificate is checked. Without it anybody on the way can read and change everything.
    #[serde(default = "yes")]
    pub verify: bool,
    /// The name that the server's certificate must carry, if it is not the host of the address.
    pub server_name: Option<String>,
    /// Oldest TLS version, "1.2" or "1.3".
    #[serde(default)]
    pub min_version: TlsVersion,
}

fn yes() -> bool {
    true
}

impl Default for TlsClient {
    fn default() -> Self {
        Self { ca: None, cert: None, key: None, verify: true, server_name: None, min_version: TlsVersion::default() }
    }
}

/// The loaded TLS side of a client.
#[derive(Clone, Debug)]
pub struct ClientTls {
    /// What rustls needs.
    pub config: Arc<ClientConfig>,
    /// The name to expect instead of the address's host.
    pub server_name: Option<ServerName<'static>>,
}

impl ClientTls {
    /// Reads the files that `settings` names. Loads the system's authorities if `ca` is not set, which takes
    /// some milliseconds: load once and clone.
    ///
    /// # Errors
    /// A file that cannot be read or used, `cert` without `key`, a `server_name` that is no name.
    pub fn load(settings: &TlsClient) -> Result<Self, Error> {
        let server_name = match &settings.server_name {
            Some(name) => Some(ServerName::try_from(name.clone()).map_err(|error| {
                Error::new(ErrorKind::Configuration, LOAD, "server_name is neither a host name nor an IP address")
                    .with("server_name", name)
                    .because(error)
            })?),
            None => None,
        };
        let provider = provider();
        let algorithms = provider.signature_verification_algorithms;
        let builder =
            ClientConfig::builder_with_provider(provider).with_protocol_versions(settings.min_version.supported()).map_err(unexpected)?;
        let builder = if settings.verify {
            let roots = match &settings.ca {
                Some(path) => roots(path)?,
                None => system_roots()?,
            };
            builder.with_root_certificates(roots)
        } else {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(TrustAnybody(algorithms)))
        };
        let config = match (&settings.cert, &settings.key) {
            (Some(cert), Some(key)) => {
                builder.with_client_auth_cert(own_certificates(cert)?, private_key(key)?).map_err(|error| pair_error(cert, key, error))?
            }
            (None, None) => builder.with_no_client_auth(),
            _ => return Err(Error::new(ErrorKind::Configuration, LOAD, "`cert` and `key` belong together; only one of them is set")),
        };
        Ok(Self { config: Arc::new(config), server_name })
    }

    /// For a client that only speaks plain HTTP: no handshake can succeed.
    pub(crate) fn trusting_nobody() -> Self {
        let builder = ClientConfig::builder_with_provider(provider());
        #[expect(clippy::expect_used, reason = "our own provider has the default versions; a test runs this")]
        let builder = builder.with_safe_default_protocol_versions().expect("aws-lc-rs speaks TLS 1.2 and 1.3");
        Self { config: Arc::new(builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth()), server_name: None }
    }
}

/// How often certificate files are looked at.
pub const RELOAD_INTERVAL: Duration = Duration::from_secs(30);

/// The loaded TLS side of a listener, shared by all shards.
pub struct ServerTls {
    settings: TlsServer,
    tickets: usize,
    loaded: Mutex<Loaded>,
}

struct Loaded {
    config: Arc<ServerConfig>,
    stamps: Vec<Stamp>,
}

/// Size and modification time; `None` while a file is away.
type Stamp = Option<(u64, SystemTime)>;

impl ServerTls {
    /// Reads the files that `settings` names.
    ///
    /// # Errors
    /// A file that cannot be read or used, with its name.
    pub fn load(settings: TlsServer) -> Result<Self, Error> {
        Self::with_tickets(settings, TICKETS)
    }

    /// As [`ServerTls::load`], for protocols whose senders never read: no TLS 1.3 session ticket is sent. A sender
    /// that closes with a ticket unread in its socket resets the connection, and its kernel throws away what it has
    /// not sent yet.
    ///
    /// # Errors
    /// As for [`ServerTls::load`].
    pub fn load_one_way(settings: TlsServer) -> Result<Self, Error> {
        Self::with_tickets(settings, 0)
    }

    fn with_tickets(settings: TlsServer, tickets: usize) -> Result<Self, Error> {
        // The stamps are taken first: a change in between is then seen as one, and loaded again.
        let stamps = stamps(&settings);
        let config = server_config(&settings, tickets)?;
        Ok(Self { settings, tickets, loaded: Mutex::new(Loaded { config, stamps }) })
    }

    /// The configuration for a new connection.
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.loaded.lock().unwrap_or_else(PoisonError::into_inner).config)
    }

    /// Loads the files again if one of them changed since the last good load. Says whether it did.
    ///
    /// # Errors
    /// As for [`ServerTls::load`]; the configuration in use stays.
    pub fn reload_if_changed(&self) -> Result<bool, Error> {
        let stamps = stamps(&self.settings);
        if self.loaded.lock().unwrap_or_else(PoisonError::into_inner).stamps == stamps {
            return Ok(false);
        }
        let config = server_config(&self.settings, self.tickets)?;
        *self.loaded.lock().unwrap_or_else(PoisonError::into_inner) = Loaded { config, stamps };
        Ok(true)
    }
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerTls").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// What the certificate that the other side showed says, if it showed one.
pub fn peer_certificate(connection: &rustls::CommonState) -> Option<Certificate> {
    Certificate::parse(connection.peer_certificates()?.first()?)
}

const LOAD: &str = "load TLS files";

/// Session tickets for each TLS 1.3 connection of a client that reads: one, as most resume once.
const TICKETS: usize = 1;

fn server_config(settings: &TlsServer, tickets: usize) -> Result<Arc<ServerConfig>, Error> {
    let provider = provider();
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(settings.min_version.supported())
        .map_err(unexpected)?;
    let builder = match &settings.client_ca {
        Some(path) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(path)?), provider)
                .build()
                .map_err(|error| file_error(path, "cannot be used to check clients").because(error))?;
            builder.with_client_cert_verifier(verifier)
        }
        None => builder.with_no_client_auth(),
    };
    let mut config = builder
        .with_single_cert(own_certificates(&settings.cert)?, private_key(&settings.key)?)
        .map_err(|error| pair_error(&settings.cert, &settings.key, error))?;
    config.send_tls13_tickets = tickets;
    Ok(Arc::new(config))
}

fn stamps(settings: &TlsServer) -> Vec<Stamp> {
    let files = [Some(&settings.cert), Some(&settings.key), settings.client_ca.as_ref()];
    let stamp = |path: &PathBuf| std::fs::metadata(path).ok().and_then(|meta| Some((meta.len(), meta.modified().ok()?)));
    files.into_iter().flatten().map(stamp).collect()
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn unexpected(error: rustls::Error) -> Error {
    Error::new(ErrorKind::Unexpected, LOAD, "these TLS versions are not available").because(error)
}

fn file_error(path: &Path, what: &str) -> Error {
    Error::new(ErrorKind::Configuration, LOAD, format!("{} {what}", path.display()))
}

fn pair_error(cert: &Path, key: &Path, error: rustls::Error) -> Error {
    match error {
        rustls::Error::InconsistentKeys(_) => file_error(key, "is not the key of the certificate").with("certificate", cert.display()),
        other => file_error(key, "cannot be used with the certificate").with("certificate", cert.display()).because(other),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let fail = |error| Error::new(ErrorKind::Storage, LOAD, format!("cannot read {}", path.display())).because(error).retry(Retry::Never);
    let mut bytes = Vec::new();
    #[expect(clippy::disallowed_methods, reason = "bounded by take")]
    File::open(path).and_then(|file| file.take(PEM_BYTES_MAX + 1).read_to_end(&mut bytes)).map_err(fail)?;
    if bytes.len() as u64 > PEM_BYTES_MAX {
        return Err(file_error(path, "is larger than any PEM file of certificates"));
    }
    Ok(bytes)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let pem = read(path)?;
    let certificates = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| file_error(path, "is not a valid PEM file").because(error))?;
    if certificates.is_empty() {
        return Err(file_error(path, "has no certificate in it (expected -----BEGIN CERTIFICATE-----)"));
    }
    Ok(certificates)
}

/// A certificate that we show, checked for what every peer would refuse.
fn own_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let certificates = certificates(path)?;
    let first = certificates.first().and_then(|der| Certificate::parse(der));
    let Some(first) = first else { return Err(file_error(path, "starts with something that is not an X.509 certificate")) };
    if first.not_after < clock::now_ms() / 1000 {
        let end = jiff::Timestamp::from_second(first.not_after).map_or_else(|_| "long ago".to_owned(), |time| time.to_string());
        return Err(file_error(path, "is expired").with("valid until", end));
    }
    Ok(certificates)
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, Error> {
    let pem = read(path)?;
    if memchr::memmem::find(&pem, b"ENCRYPTED").is_some() {
        return Err(file_error(path, "is encrypted; `openssl pkey -in FILE -out PLAIN` writes it without a password"));
    }
    PrivateKeyDer::from_pem_slice(&pem).map_err(|error| match error {
        rustls::pki_types::pem::Error::NoItemsFound => file_error(path, "has no private key in it (expected -----BEGIN PRIVATE KEY-----)"),
        other => file_error(path, "is not a valid PEM file").because(other),
    })
}

fn roots(path: &Path) -> Result<RootCertStore, Error> {
    let mut store = RootCertStore::empty();
    for (index, certificate) in certificates(path)?.into_iter().enumerate() {
        store.add(certificate).map_err(|error| file_error(path, &format!("has a bad certificate, number {}", index + 1)).because(error))?;
    }
    Ok(store)
}

/// Old entries that rustls cannot read are left out: one of them must not take all others away.
fn system_roots() -> Result<RootCertStore, Error> {
    let mut store = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    store.add_parsable_certificates(found.certs);
    if store.is_empty() {
        let mut error =
            Error::new(ErrorKind::Configuration, LOAD, "the system has no trusted certificates; install ca-certificates or set `ca`");
        if let Some(first) = found.errors.into_iter().next() {
            error = error.because(first);
        }
        return Err(error);
    }
    Ok(store)
}

/// `verify: false`. The handshake's own signature is still checked, so that a broken peer is noticed.
#[derive(Debug)]
struct TrustAnybody(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for TrustAnybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use bytes::Bytes;
    use http_body_util::Full;
    use hyper::body::Incoming;
    use hyper::{Request, Response};
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
    use tempfile::TempDir;
    use tokio::task::LocalSet;

    use super::*;
    use crate::net::http_client::{Answer, ClientOptions, HttpClient, SendError, SendErrorKind};
    use crate::net::http_server::{ConnectionInfo, ServerCounters, ServerOptions, serve};
    use crate::net::listen;

    /// 2020-06-01, inside the validity of the expired certificate.
    const LONG_AGO_MS: i64 = 1_590_969_600_000;

    struct Authority {
        dir: TempDir,
        issuer: Issuer<'static, KeyPair>,
    }

    impl Authority {
        fn new() -> Self {
            Self::named("Test authority")
        }

        fn named(name: &str) -> Self {
            let mut params = CertificateParams::new(Vec::new()).unwrap();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.distinguished_name.push(DnType::CommonName, name);
            let key = KeyPair::generate().unwrap();
            let dir = tempfile::tempdir().unwrap();
            std::fs::write(dir.path().join("ca.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
            Self { dir, issuer: Issuer::new(params, key) }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.dir.path().join(name)
        }

        /// Writes `NAME.pem` and `NAME.key` for a host or client of that name.
        fn issue(&self, name: &str, last_year: i32) {
            let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
            params.distinguished_name.push(DnType::CommonName, name);
            params.not_before = rcgen::date_time_ymd(2020, 1, 1);
            params.not_after = rcgen::date_time_ymd(last_year, 1, 1);
            let key = KeyPair::generate().unwrap();
            let certificate = params.signed_by(&key, &self.issuer).unwrap();
            std::fs::write(self.path(&format!("{name}.pem")), certificate.pem()).unwrap();
            std::fs::write(self.path(&format!("{name}.key")), key.serialize_pem()).unwrap();
        }

        fn server(&self, name: &str) -> TlsServer {
            let (cert, key) = (self.path(&format!("{name}.pem")), self.path(&format!("{name}.key")));
            TlsServer { cert, key, client_ca: None, min_version: TlsVersion::V1_2 }
        }

        fn client(&self) -> TlsClient {
            TlsClient { ca: Some(self.path("ca.pem")), ..TlsClient::default() }
        }
    }

    async fn answer(_: Request<Incoming>, info: Rc<ConnectionInfo>) -> Response<Full<Bytes>> {
        let name = info.certificate.as_ref().and_then(Certificate::name).unwrap_or("nobody");
        Response::new(Full::from(name.to_owned()))
    }

    /// Starts a server and hands its port and counters to `test`.
    fn with_server<F: Future<Output = ()>>(tls: Arc<ServerTls>, test: impl FnOnce(u16, ServerCounters) -> F) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        LocalSet::new().block_on(&runtime, async {
            let listener = listen::tcp("127.0.0.1:0".parse().unwrap()).unwrap();
            let port = listener.local_addr().unwrap().port();
            let counters = ServerCounters::default();
            let options = ServerOptions { tls: Some(tls), counters: counters.clone(), ..ServerOptions::default() };
            tokio::task::spawn_local(serve(listener, options, answer, std::future::pending()));
            test(port, counters).await;
        });
    }

    /// The client may know of a failure before the server has counted it.
    async fn failures_become(counters: &ServerCounters, count: u64) {
        for _ in 0..500 {
            if counters.tls_failed.value() == count {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{} handshakes failed, expected {count}", counters.tls_failed.value());
    }

    async fn send(port: u16, settings: &TlsClient) -> Result<Answer, SendError> {
        let client = HttpClient::new(ClientOptions { tls: Some(ClientTls::load(settings).unwrap()), ..ClientOptions::default() });
        client.send(Request::get(format!("https://localhost:{port}/")).body(Full::default()).unwrap()).await
    }

    #[test]
    fn a_server_is_trusted_by_its_authority_and_name_only() {
        let (authority, stranger) = (Authority::new(), Authority::named("Stranger"));
        authority.issue("localhost", 2099);
        with_server(Arc::new(ServerTls::load(authority.server("localhost")).unwrap()), async |port, counters| {
            assert_eq!(send(port, &authority.client()).await.unwrap().body, "nobody");
            let wrong_authority = send(port, &stranger.client()).await.unwrap_err();
            assert_eq!((wrong_authority.kind, wrong_authority.retryable), (SendErrorKind::Tls, false), "{wrong_authority}");
            assert!(wrong_authority.to_string().contains("UnknownIssuer"), "{wrong_authority}");
            let other_name = TlsClient { server_name: Some("other.example".to_owned()), ..authority.client() };
            let wrong_name = send(port, &other_name).await.unwrap_err();
            assert_eq!(wrong_name.kind, SendErrorKind::Tls);
            assert!(wrong_name.to_string().contains("other.example"), "{wrong_name}");
            failures_become(&counters, 2).await;
            let unverified = TlsClient { verify: false, ..stranger.client() };
            assert_eq!(send(port, &unverified).await.unwrap().body, "nobody");
        });
    }

    #[test]
    fn a_sender_that_never_reads_finds_no_session_ticket_in_its_socket() {
        use std::io::{ErrorKind, Read as _, Write as _};
        use tokio::io::AsyncReadExt as _;
        let authority = Authority::new();
        authority.issue("localhost", 2099);
        let unread = |tls: ServerTls| {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let config = ClientTls::load(&authority.client()).unwrap().config;
            let client = std::thread::spawn(move || {
                let mut socket = std::net::TcpStream::connect(address).unwrap();
                let mut session = rustls::ClientConnection::new(config, "localhost".try_into().unwrap()).unwrap();
                while session.is_handshaking() {
                    session.complete_io(&mut socket).unwrap();
                }
                session.writer().write_all(b"x").unwrap();
                session.complete_io(&mut socket).unwrap();
                socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
                match socket.read(&mut [0; 64]) {
                    Ok(count) => count > 0,
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::WouldBlock);
                        false
                    }
                }
            });
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                listener.set_nonblocking(true).unwrap();
                let (socket, _) = tokio::net::TcpListener::from_std(listener).unwrap().accept().await.unwrap();
                let mut stream = tokio_rustls::TlsAcceptor::from(tls.config()).accept(socket).await.unwrap();
                assert_eq!(stream.read_u8().await.unwrap(), b'x');
                tokio::task::spawn_blocking(|| client.join().unwrap()).await.unwrap()
            })
        };
        assert!(unread(ServerTls::load(authority.server("localhost")).unwrap()), "other protocols keep tickets");
        assert!(!unread(ServerTls::load_one_way(authority.server("localhost")).unwrap()));
    }

    #[test]
    fn a_certificate_of_another_name_is_accepted_under_server_name() {
        let authority = Authority::new();
        authority.issue("splunk.example", 2099);
        with_server(Arc::new(ServerTls::load(authority.server("splunk.example")).unwrap()), async |port, _| {
            assert_eq!(send(port, &authority.client()).await.unwrap_err().kind, SendErrorKind::Tls);
            let named = TlsClient { server_name: Some("splunk.example".to_owned()), ..authority.client() };
            assert_eq!(send(port, &named).await.unwrap().status, 200);
        });
    }

    #[test]
    fn a_client_needs_a_certificate_of_the_client_authority() {
        let (authority, stranger) = (Authority::new(), Authority::named("Stranger"));
        authority.issue("localhost", 2099);
        authority.issue("fw1.example", 2099);
        stranger.issue("fw1.example", 2099);
        for min_version in [TlsVersion::V1_2, TlsVersion::V1_3] {
            let settings = TlsServer { client_ca: Some(authority.path("ca.pem")), min_version, ..authority.server("localhost") };
            with_server(Arc::new(ServerTls::load(settings).unwrap()), async |port, counters| {
                let with = |from: &Authority| TlsClient {
                    cert: Some(from.path("fw1.example.pem")),
                    key: Some(from.path("fw1.example.key")),
                    ..authority.client()
                };
                assert_eq!(send(port, &with(&authority)).await.unwrap().body, "fw1.example");
                for refused in [authority.client(), with(&stranger)] {
                    let error = send(port, &refused).await.unwrap_err();
                    assert_eq!((error.kind, error.retryable), (SendErrorKind::Tls, false), "{error}");
                }
                failures_become(&counters, 2).await;
            });
        }
    }

    #[test]
    fn an_expired_certificate_is_refused_by_the_client_and_at_loading() {
        let authority = Authority::new();
        authority.issue("localhost", 2021);
        let error = ServerTls::load(authority.server("localhost")).unwrap_err().to_string();
        assert!(error.contains("localhost.pem is expired, valid until 2021-01-01T00:00:00Z"), "{error}");
        clock::fix_ms(Some(LONG_AGO_MS));
        let tls = Arc::new(ServerTls::load(authority.server("localhost")).unwrap());
        clock::fix_ms(None);
        with_server(tls, async |port, _| {
            let error = send(port, &authority.client()).await.unwrap_err();
            assert_eq!((error.kind, error.retryable), (SendErrorKind::Tls, false));
            assert!(error.to_string().contains("expired"), "{error}");
        });
    }

    #[test]
    fn the_oldest_version_is_enforced() {
        let authority = Authority::new();
        authority.issue("localhost", 2099);
        let settings = TlsServer { min_version: TlsVersion::V1_3, ..authority.server("localhost") };
        with_server(Arc::new(ServerTls::load(settings).unwrap()), async |port, _| {
            let config = ClientConfig::builder_with_provider(provider())
                .with_protocol_versions(&[&version::TLS12])
                .unwrap()
                .with_root_certificates(roots(&authority.path("ca.pem")).unwrap())
                .with_no_client_auth();
            let tls = ClientTls { config: Arc::new(config), server_name: None };
            let client = HttpClient::new(ClientOptions { tls: Some(tls), ..ClientOptions::default() });
            let request = Request::get(format!("https://localhost:{port}/")).body(Full::default()).unwrap();
            assert_eq!(client.send(request).await.unwrap_err().kind, SendErrorKind::Tls);
            assert_eq!(send(port, &authority.client()).await.unwrap().status, 200);
        });
    }

    #[test]
    fn new_files_are_taken_up_and_bad_ones_leave_the_old_in_use() {
        let (authority, next) = (Authority::new(), Authority::new());
        authority.issue("localhost", 2099);
        next.issue("localhost", 2099);
        let tls = Arc::new(ServerTls::load(authority.server("localhost")).unwrap());
        with_server(Arc::clone(&tls), async |port, _| {
            assert!(!tls.reload_if_changed().unwrap());
            let later = |name: &str| {
                let file = File::options().write(true).open(authority.path(name)).unwrap();
                file.set_modified(clock_far_ahead()).unwrap();
            };
            std::fs::copy(next.path("localhost.pem"), authority.path("localhost.pem")).unwrap();
            later("localhost.pem");
            let half = tls.reload_if_changed().unwrap_err().to_string();
            assert!(half.contains("localhost.key is not the key of the certificate"), "{half}");
            assert_eq!(send(port, &authority.client()).await.unwrap().status, 200);
            std::fs::copy(next.path("localhost.key"), authority.path("localhost.key")).unwrap();
            later("localhost.key");
            assert!(tls.reload_if_changed().unwrap());
            assert!(!tls.reload_if_changed().unwrap());
            assert_eq!(send(port, &authority.client()).await.unwrap_err().kind, SendErrorKind::Tls);
            assert_eq!(send(port, &next.client()).await.unwrap().status, 200);
        });
    }

    fn clock_far_ahead() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(4_000_000_000)
    }

    #[test]
    fn a_bad_file_is_named_with_what_is_wrong() {
        let authority = Authority::new();
        authority.issue("localhost", 2099);
        authority.issue("other", 2099);
        let good = authority.server("localhost");
        let write = |name: &str, content: &str| {
            std::fs::write(authority.path(name), content).unwrap();
            authority.path(name)
        };
        let encrypted = write("encrypted.key", "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n");
        let nonsense = write("nonsense.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
        let cases = [
            (TlsServer { cert: authority.path("gone.pem"), ..good.clone() }, "cannot read", "gone.pem"),
            (TlsServer { cert: write("empty.pem", ""), ..good.clone() }, "no certificate in it", "empty.pem"),
            (TlsServer { cert: good.key.clone(), ..good.clone() }, "no certificate in it", "localhost.key"),
            (TlsServer { cert: nonsense.clone(), ..good.clone() }, "not an X.509 certificate", "nonsense.pem"),
            (TlsServer { key: good.cert.clone(), ..good.clone() }, "no private key in it", "localhost.pem"),
            (TlsServer { key: encrypted, ..good.clone() }, "encrypted", "encrypted.key"),
            (TlsServer { key: authority.path("other.key"), ..good.clone() }, "not the key of the certificate", "other.key"),
            (TlsServer { client_ca: Some(nonsense), ..good }, "number 1", "nonsense.pem"),
        ];
        for (settings, what, file) in cases {
            let error = ServerTls::load(settings).unwrap_err();
            let text = error.to_string();
            assert!(text.contains(what) && text.contains(file), "{text}");
            assert!(!error.is_retryable());
        }
        let half = TlsClient { cert: Some("a.pem".into()), ..authority.client() };
        assert!(ClientTls::load(&half).unwrap_err().to_string().contains("belong together"));
        let name = TlsClient { server_name: Some("not a name".to_owned()), ..authority.client() };
        assert!(ClientTls::load(&name).unwrap_err().to_string().contains("not a name"));
    }

    #[test]
    fn settings_are_read_with_safe_defaults() {
        let client: TlsClient = serde_json::from_str("{}").unwrap();
        assert_eq!(client, TlsClient::default());
        assert!(client.verify);
        let server: TlsServer = serde_json::from_str(r#"{"cert": "c.pem", "key": "k.pem", "min_version": "1.3"}"#).unwrap();
        assert_eq!(server.min_version, TlsVersion::V1_3);
        assert!(serde_json::from_str::<TlsServer>(r#"{"cert": "c", "key": "k", "verify_client": true}"#).is_err());
        assert!(serde_json::from_str::<TlsServer>(r#"{"cert": "c", "key": "k", "min_version": "1.1"}"#).is_err());
    }
}
