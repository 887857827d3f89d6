//! A listener under test, and raw connections to it.

use crate::pki::spiffe;
use axum::Router;
use axum::routing::{get, post};
use bytes::Bytes;
use http::{Request, Response};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::version::TLS13;
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme, SupportedProtocolVersion};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;
use transport::{CallError, Client, Limits, Peer, ServerTls, serve};

/// Longer than anything here takes on a busy machine.
pub(crate) const LONG: Duration = Duration::from_secs(20);
/// A limit short enough to wait for.
pub(crate) const SHORT: Duration = Duration::from_millis(300);

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    /// Told when a request to `/gate` has come in, and waited for before it is answered.
    pub(crate) entered: Arc<Notify>,
    pub(crate) gate: Arc<Notify>,
    shutdown: CancellationToken,
    task: JoinHandle<std::io::Result<()>>,
}

impl Server {
    pub(crate) async fn start(tls: ServerTls, limits: Limits) -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap(), tls, limits).await
    }

    pub(crate) async fn start_at(address: SocketAddr, tls: ServerTls, limits: Limits) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let (address, shutdown) = (listener.local_addr().unwrap(), CancellationToken::new());
        let (entered, gate) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let router = router(entered.clone(), gate.clone());
        let task = tokio::spawn(serve(listener, tls, router, limits, shutdown.clone()));
        Server { address, entered, gate, shutdown, task }
    }

    pub(crate) fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    pub(crate) fn begin_stop(&self) {
        self.shutdown.cancel();
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.task.is_finished()
    }

    /// Waits until the server has ended everything.
    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        tokio::time::timeout(LONG, self.task).await.unwrap().unwrap().unwrap();
    }
}

fn router(entered: Arc<Notify>, gate: Arc<Notify>) -> Router {
    let gated = async move || {
        entered.notify_one();
        gate.notified().await;
        "done"
    };
    Router::new()
        .route("/gate", get(gated))
        .route("/whoami", get(|Peer(peer): Peer| async move { peer.spiffe.to_string() }))
        .route("/wait/{ms}", get(wait))
        .route("/echo", post(|body: Bytes| async move { body }))
        .route("/hello", get(|| async { "hello" }))
        .route("/conflict", get(|| async { (http::StatusCode::CONFLICT, "PESEL 90010112345 exists") }))
}

async fn wait(axum::extract::Path(ms): axum::extract::Path<u64>) -> &'static str {
    tokio::time::sleep(Duration::from_millis(ms)).await;
    "done"
}

pub(crate) fn get_request(path: &str) -> Request<Bytes> {
    Request::get(path).body(Bytes::new()).unwrap()
}

/// Calls the server as "mops" with a generous deadline.
pub(crate) async fn call(client: &Client, server: &Server, path: &str) -> Result<Response<Bytes>, CallError> {
    client.call(&spiffe("mops"), &server.url(), get_request(path), LONG).await
}

/// The code of the failure of a call that must fail.
pub(crate) async fn refusal(client: &Client, server: &Server) -> String {
    call(client, server, "/hello").await.unwrap_err().code().to_owned()
}

/// A client configuration that trusts any server and has no certificate.
pub(crate) fn anonymous(version: &'static SupportedProtocolVersion, alpn: &str) -> ClientConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone))
        .with_no_client_auth();
    config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
    config
}

/// The same with this chain and key, whatever they are.
pub(crate) fn with_certificate((cert, key): &(String, String)) -> ClientConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let (chain, key) = parse(cert, key);
    ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone))
        .with_client_auth_cert(chain, key)
        .unwrap()
}

/// A server that presents this chain, whatever it is, and lets anybody in. Its URL.
pub(crate) async fn lax_server((cert, key): &(String, String)) -> String {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let (chain, key) = parse(cert, key);
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = acceptor.accept(stream).await.unwrap();
        read_all(&mut stream).await;
    });
    url
}

fn parse(cert: &str, key: &str) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let chain = CertificateDer::pem_slice_iter(cert.as_bytes()).map(Result::unwrap).collect();
    (chain, PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap())
}

pub(crate) async fn connect(server: &Server, config: Arc<ClientConfig>) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(server.address).await?;
    TlsConnector::from(config).connect(ServerName::try_from("any.example").unwrap(), stream).await
}

/// Sends `text` and reads until the server closes.
pub(crate) async fn converse(stream: &mut TlsStream<TcpStream>, text: &str) -> String {
    stream.write_all(text.as_bytes()).await.unwrap();
    read_all(stream).await
}

pub(crate) async fn read_all(stream: &mut (impl AsyncReadExt + Unpin)) -> String {
    let mut answer = Vec::new();
    // How the end comes (close_notify or reset) is not the point.
    let _ = tokio::time::timeout(LONG, stream.read_to_end(&mut answer)).await.expect("the server never closed");
    String::from_utf8_lossy(&answer).into_owned()
}

#[derive(Debug)]
pub(crate) struct Anyone;

impl ServerCertVerifier for Anyone {
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
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256, SignatureScheme::ED25519, SignatureScheme::RSA_PSS_SHA256]
    }
}
