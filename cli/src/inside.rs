//! A registry or node inside this process: the same listeners and files as a process of its own, with a clock that can
//! be set and a view of its plaintext messages. For tests.

use crate::exit::Failure;
use crate::process::{Listening, blocking};
use crate::prompt::no_passphrase;
use node::{Node, Surroundings};
use registry::Registry;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// One part of a federation running inside this process.
pub struct Inside {
    /// Where it listens.
    pub listening: Listening,
    /// The node, if it is one and runs.
    pub node: Option<Arc<Node>>,
    /// The registry, if it is one and runs.
    pub registry: Option<Arc<Registry>>,
    name: String,
    config: PathBuf,
    surroundings: Surroundings,
    stop: CancellationToken,
    task: Option<JoinHandle<Result<(), Failure>>>,
}

impl Inside {
    /// Starts the part `name` by its configuration.
    ///
    /// # Errors
    /// Whatever keeps it from starting.
    pub async fn start(name: &str, config: &Path, surroundings: &Surroundings) -> Result<Self, Failure> {
        let mut inside = Inside {
            listening: Listening { peers: ([127, 0, 0, 1], 0).into(), local: None },
            node: None,
            registry: None,
            name: name.to_owned(),
            config: config.to_owned(),
            surroundings: surroundings.clone(),
            stop: CancellationToken::new(),
            task: None,
        };
        inside.restart().await?;
        Ok(inside)
    }

    /// Stops it as a signal would, and waits until nothing of it is left.
    ///
    /// # Errors
    /// What it ended with.
    pub async fn stop(&mut self) -> Result<(), Failure> {
        self.stop.cancel();
        let ended = match self.task.take() {
            Some(task) => task.await.map_err(|e| Failure::new("internal", e))?,
            None => Ok(()),
        };
        let (node, registry) = (self.node.take(), self.registry.take());
        // What it still does beside the network threads has a handle too, for a moment.
        for _ in 0..1_000 {
            let handles = node.as_ref().map_or(0, Node::handles).max(registry.as_ref().map_or(0, Registry::handles));
            if handles <= 1 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        // The last handle waits for the log's writer.
        blocking(move || drop((node, registry))).await?;
        ended
    }

    /// Starts it again.
    ///
    /// # Errors
    /// Whatever keeps it from starting.
    pub async fn restart(&mut self) -> Result<(), Failure> {
        self.stop = CancellationToken::new();
        if self.name == node::REGISTRY { self.start_registry().await } else { self.start_node().await }
    }

    async fn start_registry(&mut self) -> Result<(), Failure> {
        let config = registry::Config::load(&self.config)?;
        let listener = TcpListener::bind(config.peers.listen).await?;
        self.listening = Listening { peers: listener.local_addr()?, local: None };
        let clock = self.surroundings.clock.clone();
        let registry = Arc::new(Registry::open(config, clock, no_passphrase).await?);
        self.registry = Some(registry.clone());
        let stop = self.stop.clone();
        self.task = Some(tokio::spawn(async move { Ok(registry.serve(listener, stop).await?) }));
        Ok(())
    }

    async fn start_node(&mut self) -> Result<(), Failure> {
        let config = node::Config::load(&self.config)?;
        let peers = TcpListener::bind(config.peers.listen).await?;
        let local = match &config.local {
            Some(local) => Some(TcpListener::bind(local.listen).await?),
            None => None,
        };
        self.listening =
            Listening { peers: peers.local_addr()?, local: local.as_ref().map(TcpListener::local_addr).transpose()? };
        let surroundings = self.surroundings.clone();
        let node = blocking(move || Node::open(config, surroundings, no_passphrase)).await??;
        let admin = node.bind_admin()?;
        self.node = Some(node.clone());
        let stop = self.stop.clone();
        self.task = Some(tokio::spawn(async move { Ok(node.serve(peers, local, admin, stop).await?) }));
        Ok(())
    }
}
