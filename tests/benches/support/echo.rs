//! The bare server that the product is held against: hyper over rustls, mutual TLS 1.3, HTTP/2, an answer of a given
//! length. It uses nothing of this workspace and runs as a process of its own: this program, started with
//! [`ARGUMENT`].

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::RootCertStore;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::{NoServerSessionStorage, ServerConfig, WebPkiClientVerifier};
use rustls::version::TLS13;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// First argument of a process that is to be the server; then the directory of its certificates, then the length.
pub(crate) const ARGUMENT: &str = "--echo";

/// A running server; killed when dropped.
pub(crate) struct Echo {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Echo {
    /// Starts one with the certificate and key in `tls`, answering `length` bytes.
    pub(crate) fn start(tls: &Path, length: usize) -> Self {
        let program = std::env::current_exe().expect("this program");
        let mut child = Command::new(program)
            .arg(ARGUMENT)
            .arg(tls)
            .arg(length.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a process");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("its output");
        BufReader::new(stdout).read_line(&mut line).expect("its address");
        Echo { child, address: line.trim().parse().expect("an address") }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        let _ended = self.child.kill().and_then(|()| self.child.wait());
    }
}

/// Serves until standard input closes.
#[expect(clippy::print_stdout, reason = "its parent reads the address there")]
pub(crate) fn serve(tls: &Path, length: usize) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let acceptor = TlsAcceptor::from(Arc::new(config(tls)));
    let answer = Bytes::from(vec![b'x'; length]);
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a port");
    println!("{}", listener.local_addr().expect("an address"));
    runtime.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, answer) = (acceptor.clone(), answer.clone());
            tokio::spawn(async move {
                let Ok(()) = stream.set_nodelay(true) else { return };
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let service = service_fn(move |request| echo(request, answer.clone()));
                let connection = http2::Builder::new(TokioExecutor::new());
                let _ended = connection.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    let _closed = std::io::stdin().read_to_end(&mut Vec::new());
}

async fn echo(request: Request<Incoming>, answer: Bytes) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let _read = request.into_body().collect().await?.to_bytes();
    let mut response = Response::new(Full::new(answer));
    response
        .headers_mut()
        .insert(hyper::header::CONTENT_TYPE, hyper::header::HeaderValue::from_static("application/json"));
    Ok(response)
}

/// The cipher suites and key exchange groups of the product, written down again.
fn config(tls: &Path) -> ServerConfig {
    let default = aws_lc_rs::default_provider();
    let provider = Arc::new(CryptoProvider {
        cipher_suites: default.cipher_suites.iter().copied().filter(|suite| suite.tls13().is_some()).collect(),
        kx_groups: vec![
            aws_lc_rs::kx_group::X25519MLKEM768,
            aws_lc_rs::kx_group::X25519,
            aws_lc_rs::kx_group::SECP256R1,
        ],
        ..default
    });
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(tls.join("root.pem")).expect("a root")).expect("a root");
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    let chain = CertificateDer::pem_file_iter(tls.join("cert.pem")).expect("certificates");
    let chain = chain.collect::<Result<Vec<_>, _>>().expect("certificates");
    let key = PrivateKeyDer::from_pem_file(tls.join("key.pem")).expect("a key");
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .expect("TLS 1.3")
        .with_client_cert_verifier(verifier.build().expect("a verifier"))
        .with_single_cert(chain, key)
        .expect("a certificate");
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}
