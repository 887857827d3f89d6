//! The two ways in that the command line uses: a node's admin socket, and its local API with the caller's own token.

use crate::args::{ApiArgs, NodeConfig};
use crate::exit::Failure;
use crate::files::read_text;
use bytes::Bytes;
use http::Method;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use node::{Config, Line, Progress};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

/// A running node's admin socket.
#[derive(Clone, Debug)]
pub struct Admin(PathBuf);

impl Admin {
    /// The socket of the node that keeps `data`.
    #[must_use]
    pub fn of(data: &Path) -> Self {
        Admin(node::socket(data))
    }

    /// Whether a node listens there.
    pub async fn answers(&self) -> bool {
        UnixStream::connect(&self.0).await.is_ok()
    }

    /// Runs a command to its end, reporting progress.
    ///
    /// # Errors
    /// `not_running`, or the command's own failure.
    pub async fn run<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
        report: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<T, Failure> {
        let request = http::Request::post(path)
            .header(http::header::HOST, "node")
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(serde_json::to_vec(body).map_err(unexpected)?)))
            .map_err(unexpected)?;
        let mut answer = self.send(request).await?;
        let mut pending = Vec::new();
        while let Some(frame) = answer.frame().await {
            let frame = frame.map_err(|_| self.gone())?;
            pending.extend_from_slice(frame.data_ref().map(AsRef::as_ref).unwrap_or_default());
            while let Some(end) = pending.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = pending.drain(..=end).collect();
                match serde_json::from_slice(&line).map_err(unexpected)? {
                    Line::Progress(progress) => report(progress),
                    Line::Done(value) => return serde_json::from_value(value).map_err(unexpected),
                    Line::Failed { code, message } => return Err(Failure::new(&code, message)),
                }
            }
        }
        Err(self.gone())
    }

    /// Reads a document.
    ///
    /// # Errors
    /// `not_running`, or what the node says.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        let request = http::Request::get(path)
            .header(http::header::HOST, "node")
            .body(Full::new(Bytes::new()))
            .map_err(unexpected)?;
        let body = self.send(request).await?.collect().await.map_err(|_| self.gone())?.to_bytes();
        serde_json::from_slice(&body).map_err(|_| Failure::new("store_failed", String::from_utf8_lossy(&body)))
    }

    async fn send(&self, request: http::Request<Full<Bytes>>) -> Result<hyper::body::Incoming, Failure> {
        let stream = UnixStream::connect(&self.0).await.map_err(|_| self.not_running())?;
        Ok(exchange(stream, request).await.map_err(|_| self.gone())?.into_body())
    }

    fn not_running(&self) -> Failure {
        Failure::new("not_running", format!("no node runs on {}", self.0.display()))
    }

    fn gone(&self) -> Failure {
        Failure::new("not_running", format!("the node on {} stopped while working", self.0.display()))
    }
}

/// A node's local API.
#[derive(Clone)]
pub struct LocalApi {
    host: String,
    port: u16,
    tls: tokio_rustls::TlsConnector,
}

/// How a local API that listens at `address` is called from this machine.
#[must_use]
pub fn local_url(address: SocketAddr) -> String {
    let here = match address.ip() {
        IpAddr::V4(ip) => ip == Ipv4Addr::LOCALHOST || ip.is_unspecified(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unspecified(),
    };
    if here { format!("https://localhost:{}", address.port()) } else { format!("https://{address}") }
}

impl LocalApi {
    /// The API at `https://HOST:PORT`, trusting the certificates in `ca`.
    ///
    /// # Errors
    /// `value` if the address or the file is not usable.
    pub fn new(url: &str, ca: &Path) -> Result<Self, Failure> {
        let uri: http::Uri =
            url.parse().map_err(|_| Failure::new("value", "the API's address must be https://host:port"))?;
        let host = uri.host().ok_or_else(|| Failure::new("value", "the API's address names no host"))?.to_owned();
        let unusable = |e: &dyn std::fmt::Display| Failure::new("value", format!("{}: {e}", ca.display()));
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(ca).map_err(|e| unusable(&e))? {
            roots.add(certificate.map_err(|e| unusable(&e))?).map_err(|e| unusable(&e))?;
        }
        let config = ClientConfig::builder_with_provider(transport::provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(unexpected)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(LocalApi { host, port: uri.port_u16().unwrap_or(443), tls: Arc::new(config).into() })
    }

    /// Sends a request; status and JSON body.
    ///
    /// # Errors
    /// `peer_unavailable` if the API is out of reach.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        token: Option<&str>,
        body: Option<&Value>,
    ) -> Result<(u16, Value), Failure> {
        let answer = self.open(method, path, (token, None), body).await?;
        let status = answer.status().as_u16();
        let body = self.whole(answer.into_body()).await?;
        Ok((status, serde_json::from_slice(&body).unwrap_or(Value::Null)))
    }

    /// Reads a 200 answer that is text; a problem is a failure.
    ///
    /// # Errors
    /// As [`LocalApi::call`].
    pub async fn text(&self, path: &str, token: &str) -> Result<String, Failure> {
        let body = self.answered(Method::GET, path, (token, None), None).await?;
        String::from_utf8(self.whole(body).await?.to_vec()).map_err(unexpected)
    }

    /// Sends a request over a connection of its own; the answer's body is still to come.
    async fn open(
        &self,
        method: Method,
        path: &str,
        (token, second): (Option<&str>, Option<&str>),
        body: Option<&Value>,
    ) -> Result<http::Response<hyper::body::Incoming>, Failure> {
        // An IPv6 address stands in brackets in a URL.
        let host = self.host.trim_matches(['[', ']']).to_owned();
        let tcp = TcpStream::connect((host.as_str(), self.port)).await.map_err(|e| self.away(&e))?;
        let name = ServerName::try_from(host).map_err(unexpected)?;
        let stream = self.tls.connect(name, tcp).await.map_err(|e| self.away(&e))?;
        let mut request = http::Request::builder().method(method).uri(path).header(http::header::HOST, &self.host);
        for (header, token) in [(http::header::AUTHORIZATION.as_str(), token), ("confirmation", second)] {
            if let Some(token) = token {
                request = request.header(header, format!("Bearer {token}"));
            }
        }
        if body.is_some() {
            request = request.header(http::header::CONTENT_TYPE, "application/json");
        }
        let body = body.map(serde_json::to_vec).transpose().map_err(unexpected)?.unwrap_or_default();
        let request = request.body(Full::new(Bytes::from(body))).map_err(unexpected)?;
        exchange(stream, request).await.map_err(|e| self.away(&e))
    }

    /// The body of a 200 answer, still to come; a problem is a failure.
    async fn answered(
        &self,
        method: Method,
        path: &str,
        (token, second): (&str, Option<&str>),
        body: Option<&Value>,
    ) -> Result<hyper::body::Incoming, Failure> {
        let answer = self.open(method, path, (Some(token), second), body).await?;
        let (status, body) = (answer.status().as_u16(), answer.into_body());
        if status == 200 {
            return Ok(body);
        }
        Err(problem(&serde_json::from_slice(&self.whole(body).await?).unwrap_or(Value::Null)))
    }

    async fn whole(&self, body: hyper::body::Incoming) -> Result<Bytes, Failure> {
        Ok(body.collect().await.map_err(|e| self.away(&e))?.to_bytes())
    }

    fn away(&self, error: &dyn std::fmt::Display) -> Failure {
        let words = format!("the local API https://{}:{} cannot be used: {error}", self.host, self.port);
        Failure::new("peer_unavailable", words)
    }

    /// Posts a request and writes a 200 answer into `file` as it comes; a problem is a failure. `second` is the token of
    /// whoever confirms, where that is needed.
    ///
    /// # Errors
    /// As [`LocalApi::send`], the problem the node gives, or the file's.
    pub async fn download(
        &self,
        path: &str,
        token: &str,
        second: Option<&str>,
        body: &Value,
        file: &mut std::fs::File,
    ) -> Result<(), Failure> {
        let mut body = self.answered(Method::POST, path, (token, second), Some(body)).await?;
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|e| self.away(&e))?;
            if let Some(data) = frame.data_ref() {
                std::io::Write::write_all(file, data)?;
            }
        }
        Ok(())
    }

    /// [`LocalApi::download`] of what is JSON and short.
    ///
    /// # Errors
    /// As [`LocalApi::call`].
    pub async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        token: &str,
        second: Option<&str>,
        body: &Value,
    ) -> Result<T, Failure> {
        let body = self.answered(Method::POST, path, (token, second), Some(body)).await?;
        serde_json::from_slice(&self.whole(body).await?).map_err(unexpected)
    }

    /// Sends a request and reads a 200 answer; a problem is a failure.
    ///
    /// # Errors
    /// As [`LocalApi::send`], or the problem the node gives.
    pub async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        token: &str,
        body: Option<&Value>,
    ) -> Result<T, Failure> {
        let body = self.answered(method, path, (token, None), body).await?;
        serde_json::from_slice(&self.whole(body).await?).map_err(unexpected)
    }
}

/// The admin socket of the node so configured.
pub(crate) fn admin(node: &NodeConfig) -> Result<Admin, Failure> {
    Ok(Admin::of(&Config::load(&node.config)?.data))
}

/// The local API meant.
pub(crate) fn api(to: &ApiArgs) -> Result<LocalApi, Failure> {
    match (&to.api, &to.ca) {
        (Some(url), Some(ca)) => LocalApi::new(url, ca),
        (url, ca) => {
            let config = Config::load(&to.node.config)?;
            let local = config.local.ok_or_else(|| Failure::new("config", "`local` is not configured"))?;
            let configured = local_url(local.listen);
            LocalApi::new(url.as_deref().unwrap_or(&configured), ca.as_deref().unwrap_or(&local.certificate))
        }
    }
}

/// The caller's token.
pub(crate) fn token(to: &ApiArgs) -> Result<String, Failure> {
    let text = match &to.token_file {
        Some(path) => read_text(path)?,
        None => std::env::var("OGNIWO_TOKEN")
            .map_err(|_| Failure::new("value", "give your token with --token-file or in OGNIWO_TOKEN"))?,
    };
    Ok(text.trim().to_owned())
}

/// What the local API meant answers the caller.
pub(crate) async fn get<T: DeserializeOwned>(to: &ApiArgs, path: &str) -> Result<T, Failure> {
    api(to)?.call(Method::GET, path, &token(to)?, None).await
}

/// The same, of what the caller posts there.
pub(crate) async fn post<T: DeserializeOwned>(to: &ApiArgs, path: &str, body: &Value) -> Result<T, Failure> {
    api(to)?.call(Method::POST, path, &token(to)?, Some(body)).await
}

/// What something is called on the wire.
pub(crate) fn word(of: &impl Serialize) -> String {
    serde_json::json!(of).as_str().unwrap_or_default().to_owned()
}

/// A problem document as a failure.
fn problem(value: &Value) -> Failure {
    let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut message = text("title");
    let (detail, field) = (text("detail"), text("field"));
    if !detail.is_empty() {
        message = format!("{message}{} {detail}", if message.ends_with('.') { "" } else { ":" });
    }
    if !field.is_empty() {
        message.push_str(&format!(" ({field})"));
    }
    let said = value.get("message").and_then(|said| serde_json::from_value(said.clone()).ok());
    Failure { code: text("code"), message, said }
}

async fn exchange<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    request: http::Request<Full<Bytes>>,
) -> hyper::Result<http::Response<hyper::body::Incoming>> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    sender.send_request(request).await
}

pub(crate) fn unexpected(error: impl std::fmt::Display) -> Failure {
    Failure::new("internal", error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::{Problem, Reason};

    /// Whoever types a command reads a node's refusal in both languages.
    #[test]
    fn a_refusal_keeps_what_it_says_in_both_languages() {
        for reason in Reason::ALL {
            let document = serde_json::to_value(Problem::because(403, *reason)).unwrap();
            let failure = problem(&document);
            let said = failure.said.unwrap();
            assert_eq!(failure.code, reason.code());
            assert_eq!(failure.message, said.en);
            assert_ne!(said.pl, said.en);
        }
        assert_eq!(problem(&serde_json::json!({ "code": "busy", "title": "Busy" })).said, None);
    }
}
