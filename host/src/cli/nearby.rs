//! Where nobody has named a signaling server: the one on this machine, or else one that is announced on the
//! network and that the user agrees to.

use super::exit::{Exit, Failure};
use super::print;
use crate::config::Config;
use crate::nearby::{self, NearbyServer, UsedServers};
use crate::question::{confirm, may_ask};
use sleap_rtc_signaling::client::Endpoints;
use std::fmt::Write as _;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long a server on this machine may take to answer.
const HERE_WITHIN: Duration = Duration::from_millis(500);

/// The configuration with the server to use, at the ports where it is: the named one, the one on this
/// machine, or one of this network.
///
/// # Errors
/// There are servers, and the user has agreed to none of them.
pub(crate) async fn with_server(config: Config) -> Result<Config, Failure> {
    if config.names_server {
        return Ok(Config { signaling: config.signaling.settled().await, ..config });
    }
    if answers(config.signaling.first()).await {
        return Ok(config);
    }
    let found = nearby::servers().await;
    if found.is_empty() {
        print::error(&format!(
            "No signaling server is named, and none is announced on this network: trying {}.\n\
             Name yours with `--signaling ADDRESS`, which `sleap-rtc worker --serve` prints.\n",
            config.signaling.first().option()
        ));
        return Ok(config);
    }
    let folder = &config.client.state_dir;
    let mut used = UsedServers::load(folder);
    let mut known = found.iter().filter(|found| used.contains(&found.server));
    let chosen = match (known.next(), known.next()) {
        (Some(only), None) => only,
        _ => {
            let chosen = ask(&found).await?;
            if let Err(error) = used.add(&chosen.server, folder) {
                tracing::warn!("cannot remember the signaling server: {error}");
            }
            chosen
        }
    };
    print::error(&format!("Signaling server, found on this network: {}\n", described(chosen)));
    let signaling = chosen.server.clone().settled().await;
    Ok(Config { signaling: signaling.into(), names_server: true, ..config })
}

/// Whether something answers at that address, which is on this machine.
pub(super) async fn answers(server: &Endpoints) -> bool {
    let host = server.websocket.host_str().unwrap_or_default();
    let port = server.websocket.port_or_known_default().unwrap_or_default();
    matches!(timeout(HERE_WITHIN, TcpStream::connect((host, port))).await, Ok(Ok(_)))
}

pub(super) fn described(found: &NearbyServer) -> String {
    format!("{} at {}", found.name, found.address())
}

/// The server that the user agrees to.
async fn ask(found: &[NearbyServer]) -> Result<&NearbyServer, Failure> {
    if !may_ask() {
        return Err(unanswered(found));
    }
    for server in found {
        let text = format!(
            "No signaling server is configured. One is announced on this network: {}.\n\
             Anybody on the network can announce one. Use it, also from now on? [y/N] ",
            described(server)
        );
        match confirm(&text).await {
            Some(true) => return Ok(server),
            Some(false) => {}
            None => return Err(unanswered(found)),
        }
    }
    let text = "no signaling server is configured, and none of those on this network was chosen";
    Err(Failure::message(Exit::Connect, text).hint("name one with `--signaling ADDRESS`"))
}

fn unanswered(found: &[NearbyServer]) -> Failure {
    let text = "no signaling server is configured, and one that is only announced on this network needs \
                your consent";
    let mut hint = "to use it, name it:".to_owned();
    for server in found {
        // Writing to a String cannot fail.
        let _ = write!(hint, "\n`--signaling {}` ({})", server.address(), server.name);
    }
    Failure::message(Exit::Connect, text).hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sleap_rtc_protocol::text::Printable;

    #[test]
    fn without_a_terminal_the_error_names_each_server() {
        let found = ["ws://10.0.0.4:8080", "wss://gpu2.lab:8443"].map(|address| NearbyServer {
            name: Printable::line("gpu", 40),
            server: Endpoints::from_one(address).unwrap(),
        });
        insta::assert_snapshot!(unanswered(&found).report(), @r"
        error: no signaling server is configured, and one that is only announced on this network needs your consent
        hint: to use it, name it:
              `--signaling ws://10.0.0.4:8080` (gpu)
              `--signaling wss://gpu2.lab:8443` (gpu)
        ");
    }
}
