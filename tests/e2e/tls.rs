//! A certificate of a server's own, with which it also discovers addresses for its peers.

use crate::support::*;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Vouches for itself, as does the one that follows it.
pub struct Certificate {
    folder: PathBuf,
}

impl Certificate {
    /// For a server at these names and addresses.
    pub fn new(site: &Site, names: &[&str]) -> Self {
        let folder = site.folder("certificates");
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let made = ["next-", ""].map(|which| {
            let made = rcgen::generate_simple_self_signed(names.clone()).unwrap();
            fs::write(folder.join(format!("{which}cert.pem")), made.cert.pem()).unwrap();
            let key = made.signing_key.serialize_pem();
            fs::write(folder.join(format!("{which}key.pem")), key).unwrap();
            made.cert.pem()
        });
        fs::write(folder.join("trusted.pem"), made.concat()).unwrap();
        Self { folder }
    }

    /// The configuration of a server that shows it.
    pub fn config(&self) -> String {
        let folder = self.folder.display();
        format!("[signaling]\ntls_cert = \"{folder}/cert.pem\"\ntls_key = \"{folder}/key.pem\"\n")
    }

    /// The variables with which a program finds the server and trusts it.
    pub fn variables(&self, server: SocketAddr) -> [(&'static str, String); 3] {
        [
            ("SLEAP_RTC_SIGNALING_WS", format!("wss://{server}")),
            ("SLEAP_RTC_SIGNALING_HTTP", format!("https://{server}")),
            ("SSL_CERT_FILE", self.folder.join("trusted.pem").display().to_string()),
        ]
    }

    /// Puts the one that follows in its place. The server reads it at SIGHUP.
    pub fn renew(&self) {
        for name in ["cert.pem", "key.pem"] {
            fs::rename(self.folder.join(format!("next-{name}")), self.folder.join(name)).unwrap();
        }
    }
}
