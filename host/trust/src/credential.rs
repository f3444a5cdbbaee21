//! The token of a room: `SERVER.PEER` as one text to copy. The first part goes to the signaling
//! server, which admits peers by it. The second part stays between the peers, which recognize each
//! other by it.

use crate::device::{DeviceId, DeviceKey};
use crate::encoding;
use serde::{Deserialize, Serialize};
use sleap_rtc_protocol::ids::{IdError, RoomCredentials, RoomId, Token};
use std::{fmt, str::FromStr};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// The separator between the parts of a token.
const SEPARATOR: char = '.';
/// The kinds of peer parts: their first byte.
const FOR_CLIENTS: u8 = 1;
const FOR_WORKERS: u8 = 2;
const FOR_MEMBERS: u8 = 3;
const SECRET_BYTES: usize = 16;
const CHECK_BYTES: usize = 2;

/// The secret that the holders of a room's token share. It admits clients.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct RoomSecret([u8; SECRET_BYTES]);

impl RoomSecret {
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The secret of the room's token number `number`, which only those derive that have its authority.
    fn derived(authority: &DeviceKey, number: u32) -> Self {
        let seed = authority.to_bytes();
        let parts: [&[u8]; 3] = [b"sleap-rtc room secret 1", &seed[..], &number.to_be_bytes()];
        let (mut hash, mut secret) = (encoding::hash(&parts), [0; SECRET_BYTES]);
        secret.copy_from_slice(&hash[..SECRET_BYTES]);
        hash.zeroize();
        Self(secret)
    }
}

impl fmt::Debug for RoomSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RoomSecret(redacted)")
    }
}

impl PartialEq for RoomSecret {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for RoomSecret {}

/// The key that signs a room's certificates: its public half, or all of it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Authority {
    Known(DeviceId),
    Held(Box<DeviceKey>),
}

/// The secrets that the peers of a room share, and that the signaling server never sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerPart {
    /// Members that enter by their certificates do not know it.
    secret: Option<RoomSecret>,
    authority: Authority,
}

impl PeerPart {
    /// Creates the peer part of a new room, on its first worker.
    pub fn from_random(random: [u8; 48]) -> Self {
        let random = Zeroizing::new(random);
        let (mut secret, mut seed) = ([0; SECRET_BYTES], [0; 32]);
        secret.copy_from_slice(&random[..SECRET_BYTES]);
        seed.copy_from_slice(&random[SECRET_BYTES..]);
        let authority = Authority::Held(Box::new(DeviceKey::from_bytes(seed)));
        seed.zeroize();
        Self { secret: Some(RoomSecret(secret)), authority }
    }

    /// The same without the authority's key, for clients.
    #[must_use]
    pub fn for_clients(&self) -> Self {
        let (secret, authority) = (self.secret.clone(), Authority::Known(self.authority()));
        Self { secret, authority }
    }

    /// The same without the room's secret as well: what clients get that enter by a certificate.
    #[must_use]
    pub fn for_members(&self) -> Self {
        Self { secret: None, authority: Authority::Known(self.authority()) }
    }

    /// The same with the secret of the room's token number `number`. Without the authority's key the
    /// secret is what it was.
    #[must_use]
    pub fn renewed(&self, number: u32) -> Self {
        let key = self.authority_key().filter(|_| number > 0);
        let secret = key.map(|key| RoomSecret::derived(key, number));
        Self { secret: secret.or_else(|| self.secret.clone()), authority: self.authority.clone() }
    }

    /// The room's secret, if it is known.
    pub fn secret(&self) -> Option<&RoomSecret> {
        self.secret.as_ref()
    }

    /// The key whose certificates count in this room.
    pub fn authority(&self) -> DeviceId {
        match &self.authority {
            Authority::Known(id) => *id,
            Authority::Held(key) => key.id(),
        }
    }

    /// The authority's whole key, which only workers have.
    pub fn authority_key(&self) -> Option<&DeviceKey> {
        match &self.authority {
            Authority::Known(_) => None,
            Authority::Held(key) => Some(key),
        }
    }

    /// As text, bound to the server's part of the token.
    fn text(&self, server: &Token) -> Zeroizing<String> {
        let secret = self.secret.as_ref().map_or(&[][..], RoomSecret::as_bytes);
        let mut bytes = Zeroizing::new(Vec::with_capacity(1 + secret.len() + 32 + CHECK_BYTES));
        match &self.authority {
            Authority::Known(id) => {
                bytes.push(if secret.is_empty() { FOR_MEMBERS } else { FOR_CLIENTS });
                bytes.extend_from_slice(secret);
                bytes.extend_from_slice(id.as_bytes());
            }
            Authority::Held(key) => {
                bytes.push(FOR_WORKERS);
                bytes.extend_from_slice(secret);
                bytes.extend_from_slice(&key.to_bytes()[..]);
            }
        }
        let check = check(server, &bytes);
        bytes.extend_from_slice(&check);
        Zeroizing::new(encoding::text(&bytes))
    }

    fn parse(server: &Token, text: &str) -> Option<Self> {
        let bytes = Zeroizing::new(encoding::bytes(text)?);
        let (content, sum) = bytes.split_last_chunk::<CHECK_BYTES>()?;
        if check(server, content) != *sum {
            return None;
        }
        let (kind, rest) = content.split_first()?;
        let (secret, authority) = match *kind {
            FOR_MEMBERS => (None, rest),
            _ => {
                let (secret, authority) = rest.split_first_chunk::<SECRET_BYTES>()?;
                (Some(RoomSecret(*secret)), authority)
            }
        };
        let authority = Zeroizing::new(<[u8; 32]>::try_from(authority).ok()?);
        let authority = match *kind {
            FOR_CLIENTS | FOR_MEMBERS => Authority::Known(DeviceId::from_bytes(*authority).ok()?),
            FOR_WORKERS => Authority::Held(Box::new(DeviceKey::from_bytes(*authority))),
            _ => return None,
        };
        Some(Self { secret, authority })
    }
}

/// The check value, which shows whether the parts of a token are complete and belong together.
fn check(server: &Token, content: &[u8]) -> [u8; CHECK_BYTES] {
    let hash = encoding::hash(&[b"sleap-rtc token 1", server.as_str().as_bytes(), content]);
    [hash[0], hash[1]]
}

/// Why a text is not a room's token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// The part for the server is not a token.
    #[error(transparent)]
    Server(#[from] IdError),
    /// The part for peers is damaged, or belongs to another token.
    #[error("the room's token is damaged after the `.`; copy it whole")]
    Damaged,
    /// The server's token contains the separator.
    #[error(
        "the signaling server's token has a `.` in it, which separates the part that it must not see"
    )]
    Separator,
}

/// A room's token, as people copy it. Holds secrets, so `Debug` hides them.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RoomToken {
    server: Token,
    peer: Option<PeerPart>,
}

impl RoomToken {
    /// A token of both parts.
    ///
    /// # Errors
    /// The server's part contains a `.`.
    pub fn new(server: Token, peer: PeerPart) -> Result<Self, TokenError> {
        if server.as_str().contains(SEPARATOR) {
            return Err(TokenError::Separator);
        }
        Ok(Self { server, peer: Some(peer) })
    }

    /// A token without a part for peers, whose room trusts the signaling server.
    pub fn keyless(server: Token) -> Self {
        Self { server, peer: None }
    }

    /// A token of the server's part and the text of the peers' part.
    pub(crate) fn from_parts(server: Token, peer: &str) -> Result<Self, TokenError> {
        if server.as_str().contains(SEPARATOR) {
            return Err(TokenError::Separator);
        }
        let peer = PeerPart::parse(&server, peer).ok_or(TokenError::Damaged)?;
        Ok(Self { server, peer: Some(peer) })
    }

    /// The part for the signaling server.
    pub fn server(&self) -> &Token {
        &self.server
    }

    /// The part for peers.
    pub fn peer(&self) -> Option<&PeerPart> {
        self.peer.as_ref()
    }

    /// The same for clients: without the authority's key.
    #[must_use]
    pub fn for_clients(&self) -> Self {
        let peer = self.peer.as_ref().map(PeerPart::for_clients);
        Self { server: self.server.clone(), peer }
    }

    /// The same for clients that enter by their certificates: without the room's secret too.
    #[must_use]
    pub fn for_members(&self) -> Self {
        let peer = self.peer.as_ref().map(PeerPart::for_members);
        Self { server: self.server.clone(), peer }
    }

    /// The text of the part for peers.
    pub(crate) fn peer_text(&self) -> Option<Zeroizing<String>> {
        self.peer.as_ref().map(|peer| peer.text(&self.server))
    }

    /// The text to copy. Shows the secrets.
    pub fn reveal(&self) -> Zeroizing<String> {
        let server = self.server.as_str();
        Zeroizing::new(match self.peer_text() {
            Some(peer) => format!("{server}{SEPARATOR}{}", *peer),
            None => server.to_owned(),
        })
    }
}

impl fmt::Debug for RoomToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RoomToken(redacted)")
    }
}

impl FromStr for RoomToken {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let Some((server, peer)) = text.split_once(SEPARATOR) else {
            return Ok(Self::keyless(Token::new(text)?));
        };
        Self::from_parts(Token::new(server)?, peer)
    }
}

impl TryFrom<String> for RoomToken {
    type Error = TokenError;

    fn try_from(text: String) -> Result<Self, TokenError> {
        Zeroizing::new(text).parse()
    }
}

impl From<RoomToken> for String {
    fn from(token: RoomToken) -> Self {
        (*token.reveal()).clone()
    }
}

/// The credentials of a room: its id and its token, always together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credential {
    /// The room.
    pub room_id: RoomId,
    /// Its token.
    pub token: RoomToken,
}

impl Credential {
    /// The credential of a room without a part for peers.
    pub fn keyless(room: RoomCredentials) -> Self {
        Self { room_id: room.room_id, token: RoomToken::keyless(room.token) }
    }

    /// The part that the signaling server may see.
    pub fn for_server(&self) -> RoomCredentials {
        RoomCredentials { room_id: self.room_id.clone(), token: self.token.server.clone() }
    }

    /// The part that peers share, unless the room trusts the server.
    pub fn peer(&self) -> Option<&PeerPart> {
        self.token.peer()
    }

    /// The same for clients.
    #[must_use]
    pub fn for_clients(&self) -> Self {
        Self { room_id: self.room_id.clone(), token: self.token.for_clients() }
    }

    /// The same for clients that enter by their certificates.
    #[must_use]
    pub fn for_members(&self) -> Self {
        Self { room_id: self.room_id.clone(), token: self.token.for_members() }
    }

    /// The same with the room's token number `number`.
    #[must_use]
    pub fn renewed(&self, number: u32) -> Self {
        let peer = self.token.peer.as_ref().map(|peer| peer.renewed(number));
        let token = RoomToken { server: self.token.server.clone(), peer };
        Self { room_id: self.room_id.clone(), token }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn token(random: [u8; 48]) -> RoomToken {
        RoomToken::new(Token::new("0f1e2d").unwrap(), PeerPart::from_random(random)).unwrap()
    }

    proptest! {
        #[test]
        fn a_token_survives_the_clipboard(random: [u8; 24], more: [u8; 24]) {
            let mut all = [0; 48];
            all[..24].copy_from_slice(&random);
            all[24..].copy_from_slice(&more);
            let whole = token(all);
            for token in [whole.for_members(), whole.for_clients(), whole] {
                let text = token.reveal();
                prop_assert_eq!(&text.parse::<RoomToken>().unwrap(), &token);
                prop_assert_eq!(text.split_once('.').unwrap().0, "0f1e2d");
            }
        }

        #[test]
        fn a_damaged_token_is_never_a_token_for_the_server(cut in 7..74usize, flip in 7..74usize) {
            let text = token([9; 48]).reveal();
            prop_assert_eq!(text[..cut].parse::<RoomToken>(), Err(TokenError::Damaged));
            let mut changed = text.as_bytes().to_vec();
            changed[flip] = if changed[flip] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            prop_assert_eq!(changed.parse::<RoomToken>(), Err(TokenError::Damaged));
        }
    }

    #[test]
    fn clients_get_no_authority_and_nobody_sees_secrets() {
        let token = token([9; 48]);
        let clients = token.for_clients();
        assert!(token.peer().unwrap().authority_key().is_some());
        assert!(clients.peer().unwrap().authority_key().is_none());
        assert_eq!(clients.peer().unwrap().authority(), token.peer().unwrap().authority());
        assert_eq!(clients.peer().unwrap().secret(), token.peer().unwrap().secret());
        assert_eq!(clients.for_members().peer().unwrap().secret(), None);
        assert_eq!(token.for_members(), clients.for_members());
        assert_eq!(format!("{token:?}"), "RoomToken(redacted)");
        assert!(!format!("{:?}", token.peer()).contains("09, 09"));
    }

    #[test]
    fn each_token_of_a_room_has_a_secret_of_its_own_that_its_workers_derive() {
        let worker = PeerPart::from_random([9; 48]);
        let [first, second, third] = [0, 1, 2].map(|number| worker.renewed(number));
        assert_eq!(first, worker);
        assert_eq!(second.renewed(2), third, "whichever token a worker has joined with");
        assert!(first.secret() != second.secret() && second.secret() != third.secret());
        assert_eq!(worker.for_clients().renewed(1), worker.for_clients());
    }

    #[test]
    fn old_tokens_are_keyless_and_those_with_a_separator_stay_apart() {
        assert_eq!("0f1e2d".parse::<RoomToken>().unwrap().peer(), None);
        let dotted = Token::new("a.b").unwrap();
        let peer = PeerPart::from_random([9; 48]);
        assert_eq!(RoomToken::new(dotted, peer), Err(TokenError::Separator));
        let other = token([9; 48]).reveal().replace("0f1e2d", "0f1e2e");
        assert_eq!(other.parse::<RoomToken>(), Err(TokenError::Damaged), "another room's half");
    }
}
