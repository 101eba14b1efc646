//! The seam between the command line and the engine: the configuration in, a running engine out.

use std::net::SocketAddr;
use std::time::Duration;

use corecast::admin::Watched;
use corecast::config::Config;
use corecast::io::check::StartError;

/// A running engine.
pub(super) struct Engine {
    addresses: Vec<SocketAddr>,
}

impl Engine {
    /// Starts every shard and listens.
    pub(super) fn start(_config: &Config) -> Result<Engine, StartError> {
        Err(StartError {
            cause: "this build holds no shards".to_owned(),
            cure: "build a version that does".to_owned(),
        })
    }

    /// Returns the public addresses, with the ports the kernel chose.
    pub(super) fn local_addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Returns what the admin listener may look at.
    pub(super) fn watched(&self) -> Watched {
        Watched {
            read: Box::new(corecast::admin::Reading::default),
            ready: Box::new(|| Ok(())),
        }
    }

    /// Asks every shard to drain.
    pub(super) fn stop(&self) {}

    /// Waits until every shard has ended.
    pub(super) fn join(self, _timeout: Duration) -> Result<(), String> {
        Ok(())
    }
}
