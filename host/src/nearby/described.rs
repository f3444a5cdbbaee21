//! The answer about a server in this process.

use super::answer::{MAX_NAME_CHARS, SERVICE, TLS_NAME, is};
use simple_dns::rdata::{A, PTR, RData, SRV, TXT};
use simple_dns::{CLASS, Name, Packet, PacketFlag, QTYPE, Question, ResourceRecord};
use simple_dns::{SimpleDnsError, TYPE};
use std::net::Ipv4Addr;

/// How long an answer may be remembered, in seconds.
const LIFETIME_S: u32 = 120;

/// A server, as it describes itself.
#[derive(Debug)]
pub(super) struct Described {
    name: String,
    port: u16,
    tls: Option<String>,
}

impl Described {
    /// A server on a host with this name, at this port; with the name in its certificate, if it has one.
    pub(super) fn new(host: &str, port: u16, tls: Option<String>) -> Self {
        let allowed = host.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' });
        let name: String = allowed.take(MAX_NAME_CHARS).collect();
        let name = match name.trim_matches('-') {
            "" => "worker".to_owned(),
            name => name.to_owned(),
        };
        Self { name, port, tls }
    }

    /// Answers a message that asks for signaling servers, for an asker that reaches this machine at
    /// `address`. An asker outside the group (`alone`) wants to see its own question again.
    pub(super) fn answer(&self, message: &[u8], address: Ipv4Addr, alone: bool) -> Option<Vec<u8>> {
        let packet = Packet::parse(message).ok()?;
        let question = packet.questions.iter().find(|question| is_asked(question))?;
        if packet.has_flags(PacketFlag::RESPONSE) {
            return None;
        }
        let instance = format!("{}.{SERVICE}", self.name);
        // A name of its own: the system may answer about that of the host.
        let target = format!("sleap-rtc-{}.local", self.name);
        let attribute = self.tls.as_ref().map(|name| format!("{TLS_NAME}={name}"));
        let mut reply = Packet::new_reply(if alone { packet.id() } else { 0 });
        reply.set_flags(PacketFlag::AUTHORITATIVE_ANSWER);
        if alone {
            reply.questions.push(question.clone());
        }
        self.records(&mut reply, &instance, &target, attribute.as_deref(), address).ok()?;
        reply.build_bytes_vec().ok()
    }

    fn records<'a>(
        &self,
        reply: &mut Packet<'a>,
        instance: &'a str,
        target: &'a str,
        attribute: Option<&'a str>,
        address: Ipv4Addr,
    ) -> Result<(), SimpleDnsError> {
        let (instance, target) = (Name::new(instance)?, Name::new(target)?);
        let record =
            |name: &Name<'a>, data| ResourceRecord::new(name.clone(), CLASS::IN, LIFETIME_S, data);
        let mut txt = TXT::new();
        txt.add_string(attribute.unwrap_or_default())?;
        let srv = SRV { priority: 0, weight: 0, port: self.port, target: target.clone() };
        reply.answers.push(record(&Name::new(SERVICE)?, RData::PTR(PTR(instance.clone()))));
        reply.additional_records.extend([
            record(&instance, RData::SRV(srv)),
            record(&instance, RData::TXT(txt)),
            record(&target, RData::A(A::from(address))),
        ]);
        Ok(())
    }
}

fn is_asked(question: &Question) -> bool {
    let wanted = [QTYPE::ANY, QTYPE::TYPE(TYPE::PTR)].contains(&question.qtype);
    wanted && is(&question.qname, SERVICE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nearby::answer::{MAX_IN_ANSWER, NearbyServer, asked, question};
    use proptest::prelude::*;

    const HERE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 4);

    fn found(described: &Described) -> Vec<String> {
        let answer = described.answer(&question().unwrap(), HERE, false).unwrap();
        let found = NearbyServer::read(&answer, HERE);
        found.iter().map(|found| format!("{} at {}", found.name, found.address())).collect()
    }

    #[test]
    fn an_answer_names_the_machine_that_it_comes_from() {
        let plain = Described::new("gpu 1.lab_", 8080, None);
        assert_eq!(found(&plain), ["gpu-1-lab at ws://10.0.0.4:8080"]);
        let certified = Described::new("…", 8443, Some("gpu1.lab".to_owned()));
        assert_eq!(found(&certified), ["worker at wss://gpu1.lab:8443"]);
        for name in ["", "a b", "user@host", "host/path", "host#x", &"h".repeat(200)] {
            let described = Described::new("gpu1", 8443, Some(name.to_owned()));
            let is_name = name.len() == 200;
            assert_eq!(found(&described).len(), usize::from(is_name), "{name}");
        }
        assert_eq!(found(&Described::new("gpu1", 0, None)), [""; 0]);
    }

    #[test]
    fn only_questions_for_servers_are_answered() {
        let described = Described::new("gpu1", 8080, None);
        let mut other = Packet::new_query(7);
        other.questions.push(asked(Name::new("_http._tcp.local").unwrap()));
        assert!(described.answer(&other.build_bytes_vec().unwrap(), HERE, true).is_none());
        let question = question().unwrap();
        let answer = described.answer(&question, HERE, false).unwrap();
        assert!(described.answer(&answer, HERE, false).is_none(), "an answer asks nothing");
        assert!(NearbyServer::read(&question, HERE).is_empty(), "a question answers nothing");
        let alone = described.answer(&question, HERE, true).unwrap();
        assert_eq!(Packet::parse(&alone).unwrap().questions.len(), 1);
    }

    #[test]
    fn a_hostile_name_is_text_of_bounded_length() {
        let hostile = NearbyServer::new("\x1b[2J\u{202e}gpu1\n", 8080, None, HERE).unwrap();
        assert_eq!(hostile.name.as_str(), "[2Jgpu1");
        let long = NearbyServer::new(&"x".repeat(10_000), 8080, None, HERE).unwrap();
        assert!(long.name.as_str().chars().count() <= MAX_NAME_CHARS);
    }

    proptest! {
        #[test]
        fn damaged_and_random_messages_propose_no_other_machine(
            cut in 0..200_usize,
            bytes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
            random in proptest::collection::vec(any::<u8>(), 0..400),
        ) {
            let described = Described::new("gpu1", 8080, None);
            let mut damaged = described.answer(&question().unwrap(), HERE, false).unwrap();
            for (at, byte) in bytes {
                let at = at.index(damaged.len());
                damaged[at] = byte;
            }
            damaged.truncate(damaged.len().saturating_sub(cut));
            for message in [damaged, random] {
                let _ = described.answer(&message, HERE, true);
                let all = NearbyServer::read(&message, HERE);
                prop_assert!(all.len() <= MAX_IN_ANSWER);
                for found in all {
                    let url = &found.server.websocket;
                    prop_assert!(url.scheme() == "wss" || url.host_str() == Some("10.0.0.4"));
                    prop_assert!(url.username().is_empty() && url.path() == "/");
                }
            }
        }
    }
}
