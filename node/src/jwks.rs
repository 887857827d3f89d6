//! Where the identity provider's key set is read: a file, or an `https` address.

use crate::config::JwksSource;
use crate::tokens::TokensError;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(5);
const MAX_BYTES: usize = 256 * 1024;

/// The key set's name for people.
pub(crate) fn name(source: &JwksSource) -> String {
    match source {
        JwksSource::File(path) => path.display().to_string(),
        JwksSource::Url { url, .. } => url.clone(),
    }
}

/// Reads a key set file.
pub(crate) fn read(source: &JwksSource) -> Result<String, TokensError> {
    match source {
        JwksSource::File(path) => std::fs::read_to_string(path).map_err(|e| unreadable(source, e)),
        JwksSource::Url { .. } => Err(unreadable(source, "not a file")),
    }
}

/// Fetches a key set over TLS, trusting the authorities in `ca` or the system's.
pub(crate) async fn fetch(url: &str, ca: Option<&Path>) -> Result<String, TokensError> {
    let failed = |why: String| TokensError::Unreadable { from: url.to_owned(), why };
    match tokio::time::timeout(DEADLINE, get(url, ca)).await {
        Ok(Ok(text)) => Ok(text),
        Ok(Err(error)) => Err(failed(error.to_string())),
        Err(_) => Err(failed("no answer within 5 s".to_owned())),
    }
}

async fn get(url: &str, ca: Option<&Path>) -> Result<String, Box<dyn std::error::Error + Send + Sync>> {
    let uri: http::Uri = url.parse()?;
    let host = uri.host().ok_or("the address has no host")?.to_owned();
    let tcp = tokio::net::TcpStream::connect((host.as_str(), uri.port_u16().unwrap_or(443))).await?;
    let config = ClientConfig::builder_with_provider(transport::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots(ca)?)
        .with_no_client_auth();
    let tls = tokio_rustls::TlsConnector::from(Arc::new(config));
    let stream = tls.connect(ServerName::try_from(host.clone())?, tcp).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let driver = tokio::spawn(connection);
    let path = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    let request = http::Request::get(path).header(http::header::HOST, host).body(Empty::<Bytes>::new())?;
    let answer = sender.send_request(request).await?;
    if !answer.status().is_success() {
        return Err(format!("status {}", answer.status()).into());
    }
    let body = Limited::new(answer.into_body(), MAX_BYTES).collect().await?.to_bytes();
    driver.abort();
    Ok(String::from_utf8(body.to_vec())?)
}

fn roots(ca: Option<&Path>) -> Result<RootCertStore, Box<dyn std::error::Error + Send + Sync>> {
    let mut store = RootCertStore::empty();
    match ca {
        Some(path) => {
            for certificate in CertificateDer::pem_file_iter(path)? {
                store.add(certificate?)?;
            }
        }
        None => {
            store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    Ok(store)
}

fn unreadable(source: &JwksSource, why: impl std::fmt::Display) -> TokensError {
    TokensError::Unreadable { from: name(source), why: why.to_string() }
}
