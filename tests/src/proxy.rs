//! A TCP proxy that misbehaves on demand: between members there is TLS, so it sees and changes bytes only.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::lock;

/// What a proxy does to connections, open ones included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// Bytes towards the server wait this long.
    Delay(Duration),
    /// Open connections are cut, new ones refused.
    Cut,
    /// One bit of every read towards the server is flipped.
    Corrupt,
    /// Bytes are taken and never passed on.
    Swallow,
}

/// A proxy before one listener; stops when dropped.
pub struct Proxy {
    address: SocketAddr,
    fault: watch::Sender<Fault>,
    task: Mutex<Option<tokio::task::JoinHandle<()>>>,
}

impl Proxy {
    /// A proxy on a free port before `server`.
    #[must_use]
    pub fn before(server: SocketAddr) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.set_nonblocking(true).expect("non-blocking");
        let address = listener.local_addr().expect("an address");
        let (fault, seen) = watch::channel(Fault::None);
        let task = tokio::spawn(accept(TcpListener::from_std(listener).expect("a listener"), server, seen));
        Proxy { address, fault, task: Mutex::new(Some(task)) }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Misbehaves so from now on.
    pub fn set(&self, fault: Fault) {
        self.fault.send_replace(fault);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(task) = lock(&self.task).take() {
            task.abort();
        }
    }
}

async fn accept(listener: TcpListener, server: SocketAddr, fault: watch::Receiver<Fault>) {
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        if *fault.borrow() == Fault::Cut {
            continue;
        }
        connections.spawn(pass(client, server, fault.clone()));
    }
}

async fn pass(client: TcpStream, server: SocketAddr, mut fault: watch::Receiver<Fault>) {
    let Ok(server) = TcpStream::connect(server).await else { return };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let towards = fault.clone();
    let there = async move {
        let mut buffer = vec![0; 16 * 1024];
        while let Ok(read @ 1..) = from_client.read(&mut buffer).await {
            let fault = *towards.borrow();
            match fault {
                Fault::Delay(time) => tokio::time::sleep(time).await,
                Fault::Corrupt => buffer[read / 2] ^= 1,
                Fault::Swallow => continue,
                Fault::None | Fault::Cut => {}
            }
            if to_server.write_all(&buffer[..read]).await.is_err() {
                break;
            }
        }
    };
    let back = async move {
        let _ended = tokio::io::copy(&mut from_server, &mut to_client).await;
    };
    let cut = async move {
        while *fault.borrow_and_update() != Fault::Cut {
            if fault.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    };
    tokio::select! {
        () = async { tokio::join!(there, back); } => {}
        () = cut => {}
    }
}
