//! The question for signaling servers, and what an answer says.

use simple_dns::rdata::{PTR, RData, TXT};
use simple_dns::{CLASS, Name, Packet, PacketFlag, QCLASS, QTYPE, Question, SimpleDnsError, TYPE};
use sleap_rtc_protocol::text::Printable;
use sleap_rtc_signaling::client::Endpoints;
use std::net::Ipv4Addr;

/// What a signaling server is called there.
pub(super) const SERVICE: &str = "_sleap-rtc._tcp.local";
/// The attribute with the name in a server's certificate, if it has one.
pub(super) const TLS_NAME: &str = "tls";
/// The most servers in one answer that are looked at.
pub(super) const MAX_IN_ANSWER: usize = 8;
/// The most characters of a server's name.
pub(super) const MAX_NAME_CHARS: usize = 40;
/// The longest name in a certificate.
const MAX_TLS_NAME: usize = 253;

/// The question for signaling servers.
pub(super) fn question() -> Result<Vec<u8>, SimpleDnsError> {
    let mut packet = Packet::new_query(0);
    packet.questions.push(asked(Name::new(SERVICE)?));
    packet.build_bytes_vec()
}

/// The question about this name.
pub(super) fn asked(name: Name<'_>) -> Question<'_> {
    Question::new(name, QTYPE::TYPE(TYPE::PTR), QCLASS::CLASS(CLASS::IN), false)
}

/// Whether a name is this one; case does not matter.
pub(super) fn is(name: &Name, text: &str) -> bool {
    name.to_string().eq_ignore_ascii_case(text)
}

/// A server that has answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NearbyServer {
    /// What it calls itself.
    pub(crate) name: Printable,
    /// Where it is.
    pub(crate) server: Endpoints,
}

impl NearbyServer {
    /// The servers in a message that came from `sender`.
    pub(super) fn read(message: &[u8], sender: Ipv4Addr) -> Vec<Self> {
        let Ok(packet) = Packet::parse(message) else { return Vec::new() };
        if !packet.has_flags(PacketFlag::RESPONSE) {
            return Vec::new();
        }
        let records = || packet.answers.iter().chain(&packet.additional_records);
        let instances = records().filter_map(|record| match &record.rdata {
            RData::PTR(PTR(instance)) if is(&record.name, SERVICE) => Some(instance),
            _ => None,
        });
        let described = instances.take(MAX_IN_ANSWER).filter_map(|instance| {
            let of = records().filter(|record| record.name == *instance);
            let port = of.clone().find_map(|record| match &record.rdata {
                RData::SRV(srv) => Some(srv.port),
                _ => None,
            })?;
            let tls = of.clone().find_map(|record| match &record.rdata {
                RData::TXT(txt) => tls_name(txt),
                _ => None,
            });
            let name = instance.get_labels().first().map(ToString::to_string).unwrap_or_default();
            Self::new(&name, port, tls.as_deref(), sender)
        });
        described.collect()
    }

    /// `None` if that is no place to connect to.
    pub(super) fn new(name: &str, port: u16, tls: Option<&str>, sender: Ipv4Addr) -> Option<Self> {
        let address = match tls {
            Some(host) => format!("wss://{}:{port}", Some(host).filter(|host| is_host(host))?),
            None => format!("ws://{sender}:{port}"),
        };
        let server = Endpoints::from_one(&address).ok().filter(|_| port != 0)?;
        let name = Printable::line(name, MAX_NAME_CHARS);
        Some(Self { name, server })
    }

    /// Its address as an option of this program.
    pub(crate) fn address(&self) -> &str {
        self.server.websocket.as_str().trim_end_matches('/')
    }
}

fn tls_name(txt: &TXT) -> Option<String> {
    let mut attributes = txt.iter_raw();
    let (_, name) = attributes.find(|(key, _)| *key == TLS_NAME.as_bytes())?;
    Some(String::from_utf8_lossy(name.unwrap_or_default()).into_owned())
}

fn is_host(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
    (1..=MAX_TLS_NAME).contains(&text.len()) && text.chars().all(allowed)
}
