//! A server with a self-signed certificate, which also enables address discovery.

use crate::support::*;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;

/// A self-signed certificate, and its self-signed successor.
pub struct Certificate {
    folder: PathBuf,
}

impl Certificate {
    /// Creates certificates for a server with these names and addresses.
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

    /// The files with the certificate and its key.
    pub fn files(&self) -> [String; 2] {
        ["cert.pem", "key.pem"].map(|name| self.folder.join(name).display().to_string())
    }

    /// The configuration of a server with this certificate.
    pub fn config(&self) -> String {
        let [cert, key] = self.files();
        format!("[signaling]\ntls_cert = {cert:?}\ntls_key = {key:?}\n")
    }

    /// The environment variables with which a program finds and trusts the server.
    pub fn variables(&self, server: SocketAddr) -> [(&'static str, String); 3] {
        [
            ("SLEAP_RTC_SIGNALING_WS", format!("wss://{server}")),
            ("SLEAP_RTC_SIGNALING_HTTP", format!("https://{server}")),
            ("SSL_CERT_FILE", self.folder.join("trusted.pem").display().to_string()),
        ]
    }

    /// Replaces it with its successor. The server reloads it at SIGHUP.
    pub fn renew(&self) {
        for name in ["cert.pem", "key.pem"] {
            fs::rename(self.folder.join(format!("next-{name}")), self.folder.join(name)).unwrap();
        }
    }
}
