//! The accept loop.

use crate::connection::{Listener, run};
use crate::{Limits, ServerTls};
use axum::Router;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

/// Between attempts while the system refuses connections, as it does when it is out of file descriptors.
const PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Serves `router` on `listener` until `shutdown`, then lets running requests end within [`Limits::drain`]. When it
/// returns, no task of it is left.
///
/// Over mutual TLS each request carries its [`PeerIdentity`](crate::PeerIdentity) as an extension and has passed
/// [`Trust::check`](crate::Trust::check). Every error answer is a problem document.
///
/// # Errors
/// The socket is not listening. What the network or a peer does is never an error here.
pub async fn serve(
    listener: TcpListener,
    tls: ServerTls,
    router: Router,
    limits: Limits,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let drain = shutdown.child_token();
    let permits = Arc::new(Semaphore::new(limits.max_connections));
    let shared = Arc::new(Listener::new(tls, router, limits, drain.clone()));
    let mut pause = PAUSE;
    let result = loop {
        match shutdown.run_until_cancelled(accept(&listener, &permits)).await {
            None => break Ok(()),
            Some(Ok((stream, permit))) => {
                pause = PAUSE;
                let shared = shared.clone();
                shared.tasks.clone().spawn(async move {
                    run(shared, stream).await;
                    drop(permit);
                });
            }
            Some(Err(error)) if error.kind() == io::ErrorKind::InvalidInput => break Err(error),
            Some(Err(error)) => {
                if pause == PAUSE {
                    tracing::warn!(code = "accept_failed", %error, "cannot accept connections; trying again");
                }
                shutdown.run_until_cancelled(tokio::time::sleep(pause)).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    };
    drop(listener);
    drain.cancel();
    shared.finish().await;
    result
}

async fn accept(listener: &TcpListener, permits: &Arc<Semaphore>) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let permit = permits.clone().acquire_owned().await.map_err(io::Error::other)?;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return Ok((stream, permit)),
            // The peer went away between connecting and being accepted.
            Err(error) if is_peers(&error) => {}
            Err(error) => return Err(error),
        }
    }
}

fn is_peers(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}
