//! Which signaling server is meant where nobody has named one.

use super::findings::Finding;
use super::nearby;
use crate::config::Config;
use crate::nearby::servers;
use sleap_rtc_signaling::client::Endpoints;

/// The configuration with the server that a worker or a client would use, or that there is none: a worker may
/// become it, and a client that pairs is given one.
pub(super) async fn find(config: &Config, for_worker: bool) -> Result<Config, Finding> {
    if config.names_server || nearby::answers(config.signaling.first()).await {
        return Ok(config.clone());
    }
    if let Some(served) = served_here(config)
        && nearby::answers(&served).await
    {
        return Ok(Config { signaling: served.into(), ..config.clone() });
    }
    let announced = servers().await;
    let here = config.signaling.first().option();
    let says = match announced.is_empty() {
        true => {
            format!("nobody has named one, {here} is none, and none is announced on this network")
        }
        false => {
            let found: Vec<String> = announced.iter().map(nearby::described).collect();
            format!("nobody has named one, but this network announces {}", found.join(", "))
        }
    };
    let advice = match (announced.is_empty(), for_worker) {
        (true, true) => {
            "`sleap-rtc worker --serve` is one itself; name another with --signaling ADDRESS"
        }
        (true, false) => {
            "name it with --signaling ADDRESS, or pair: `sleap-rtc pair --signaling ADDRESS CODE`"
        }
        (false, _) => "name it with --signaling ADDRESS to check it",
    };
    Err(Finding::warn("server", says, advice))
}

/// The server of `worker --serve` on this machine, at the ports of the configuration.
#[cfg(all(feature = "worker", feature = "signaling"))]
fn served_here(config: &Config) -> Option<Endpoints> {
    crate::cli::serve::own(&config.server.listen).ok()
}

#[cfg(not(all(feature = "worker", feature = "signaling")))]
fn served_here(_: &Config) -> Option<Endpoints> {
    None
}
