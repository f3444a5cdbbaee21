//! Options that worker and clients share.

use super::exit::Failure;
use crate::config::Overrides;
use clap::Args;
use sleap_rtc_base::ice::IceServer;
use sleap_rtc_base::transport::Transport;
use sleap_rtc_signaling::client::Servers;
use std::path::PathBuf;

/// Options that override the configuration.
#[derive(Args)]
#[command(next_help_heading = "Network and files")]
pub struct CommonArgs {
    /// Address of the signaling server, such as ws://gpu1.example.org:8080; repeatable where several
    /// servers share their rooms
    #[arg(long, value_name = "URL")]
    signaling: Vec<String>,
    /// STUN or TURN server (turn:USER:PASSWORD@HOST:PORT), repeatable; `none` for no server
    #[arg(long, value_name = "URL|none")]
    ice_server: Vec<String>,
    /// Kind of connection: iroh where both sides have it, else WebRTC; or one of them alone
    #[arg(long, value_name = "auto|webrtc|iroh")]
    transport: Option<Transport>,
    /// Folder that worker and client both see; packages in it are not sent
    #[arg(long, value_name = "DIR")]
    shared_storage_root: Option<PathBuf>,
}

impl CommonArgs {
    pub(crate) fn check(self) -> Result<Overrides, Failure> {
        let signaling = match self.signaling.as_slice() {
            [] => Ok(None),
            given => Servers::from_texts(given).map(Some),
        };
        let root = self.shared_storage_root;
        if let Some(root) = root.as_ref().filter(|root| !root.is_dir()) {
            let root = root.display();
            return Err(Failure::usage(format!("--shared-storage-root: {root} is not a folder")));
        }
        Ok(Overrides {
            signaling: signaling
                .map_err(|message| Failure::usage(format!("--signaling {message}")))?,
            ice_servers: ice_servers(&self.ice_server)?,
            transport: self.transport,
            shared_storage_root: root,
            ..Overrides::default()
        })
    }
}

fn ice_servers(given: &[String]) -> Result<Option<Vec<IceServer>>, Failure> {
    if given.is_empty() {
        return Ok(None);
    }
    if given.iter().any(|text| text == "none") {
        return match given.len() {
            1 => Ok(Some(Vec::new())),
            _ => Err(Failure::usage("--ice-server none cannot be used together with servers")),
        };
    }
    let servers: Result<Vec<_>, _> = given.iter().map(|text| IceServer::from_url(text)).collect();
    servers.map(Some).map_err(|message| {
        Failure::usage(format!("--ice-server {message}"))
            .hint("to use no server, give `--ice-server none`")
    })
}
