//! Identity tokens: JSON Web Tokens signed with HMAC-SHA-256, whose subject is the peer id.
//!
//! The server keeps no list of identities: every token that its key signed is valid. An expired token
//! still proves the peer id, which is enough to renew it.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, Mac};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use sleap_rtc_protocol::ids::{IdToken, PeerId, RelayToken, RoomId};

/// How long a token is valid, in seconds.
pub const LIFETIME_S: u64 = 12 * 60 * 60;

/// The only header that is written or accepted, so that a token cannot choose its algorithm.
const HEADER: &str = r#"{"alg":"HS256","typ":"JWT"}"#;
const ISSUER: &str = "sleap-rtc";
/// The issuer of relay tokens, so that neither kind of token is accepted as the other.
const RELAY_ISSUER: &str = "sleap-rtc relay";

/// The server's signing key.
pub type Key = [u8; 32];

/// Why a token is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// It was not issued by this server, or is damaged.
    #[error("the identity token is not from this server; sign in again")]
    Invalid,
    /// It has expired.
    #[error("the identity token has expired; sign in again with it to keep the peer id")]
    Expired,
}

/// Signs and checks tokens.
#[derive(Clone)]
pub struct Signer(Key);

#[derive(Serialize, Deserialize)]
struct Claims {
    iss: String,
    sub: PeerId,
    iat: u64,
    exp: u64,
}

#[derive(Serialize, Deserialize)]
struct RelayClaims {
    iss: String,
    sub: PeerId,
    room: RoomId,
}

impl Signer {
    /// A signer with this key.
    pub fn new(key: Key) -> Self {
        Self(key)
    }

    /// Another key, for another purpose.
    pub(crate) fn derived_key(&self, purpose: &str) -> Key {
        self.mac(&format!("sleap-rtc key for {purpose}")).finalize().into_bytes().into()
    }

    /// A token for `peer`, valid from `now_s`, in seconds since 1970.
    ///
    /// # Errors
    /// When the token would be longer than a token may be, which no valid peer id causes.
    pub fn sign(&self, peer: &PeerId, now_s: u64) -> Result<IdToken, IdentityError> {
        let claims = Claims {
            iss: ISSUER.into(),
            sub: peer.clone(),
            iat: now_s,
            exp: now_s.saturating_add(LIFETIME_S),
        };
        IdToken::new(self.seal(&claims)?).map_err(|_| IdentityError::Invalid)
    }

    /// A token that admits `peer` to the relay while it is registered in `room`. It does not expire:
    /// the registration does.
    ///
    /// # Errors
    /// When the token would be longer than a token may be, which no valid id causes.
    pub fn sign_relay(&self, peer: &PeerId, room: &RoomId) -> Result<RelayToken, IdentityError> {
        let claims =
            RelayClaims { iss: RELAY_ISSUER.into(), sub: peer.clone(), room: room.clone() };
        RelayToken::new(self.seal(&claims)?).map_err(|_| IdentityError::Invalid)
    }

    /// The peer and the room for which a relay token was made.
    ///
    /// # Errors
    /// This server did not issue it.
    pub fn verify_relay(&self, token: &str) -> Result<(PeerId, RoomId), IdentityError> {
        let claims: RelayClaims = self.open(token)?;
        match claims.iss.as_str() {
            RELAY_ISSUER => Ok((claims.sub, claims.room)),
            _ => Err(IdentityError::Invalid),
        }
    }

    fn seal(&self, claims: &impl Serialize) -> Result<String, IdentityError> {
        let claims = serde_json::to_vec(claims).map_err(|_| IdentityError::Invalid)?;
        let signed =
            format!("{}.{}", URL_SAFE_NO_PAD.encode(HEADER), URL_SAFE_NO_PAD.encode(claims));
        let signature = URL_SAFE_NO_PAD.encode(self.mac(&signed).finalize().into_bytes());
        Ok(format!("{signed}.{signature}"))
    }

    /// The peer whose token this is.
    ///
    /// # Errors
    /// This server did not issue it, or it has expired at `now_s`.
    pub fn verify(&self, token: &IdToken, now_s: u64) -> Result<PeerId, IdentityError> {
        let claims = self.read(token)?;
        if claims.exp <= now_s { Err(IdentityError::Expired) } else { Ok(claims.sub) }
    }

    /// The peer of a token that may have expired.
    ///
    /// # Errors
    /// This server did not issue it.
    pub fn verify_expired_too(&self, token: &IdToken) -> Result<PeerId, IdentityError> {
        Ok(self.read(token)?.sub)
    }

    fn read(&self, token: &IdToken) -> Result<Claims, IdentityError> {
        let claims: Claims = self.open(token.as_str())?;
        if claims.iss == ISSUER { Ok(claims) } else { Err(IdentityError::Invalid) }
    }

    fn open<C: DeserializeOwned>(&self, token: &str) -> Result<C, IdentityError> {
        let invalid = IdentityError::Invalid;
        let (signed, signature) = token.rsplit_once('.').ok_or(invalid)?;
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| invalid)?;
        // Compares in constant time.
        self.mac(signed).verify_slice(&signature).map_err(|_| invalid)?;
        let (header, claims) = signed.split_once('.').ok_or(invalid)?;
        if header != URL_SAFE_NO_PAD.encode(HEADER) {
            return Err(invalid);
        }
        let claims = URL_SAFE_NO_PAD.decode(claims).map_err(|_| invalid)?;
        serde_json::from_slice(&claims).map_err(|_| invalid)
    }

    fn mac(&self, text: &str) -> Hmac<Sha256> {
        let mut mac: Hmac<Sha256> = keyed(&self.0);
        mac.update(text.as_bytes());
        mac
    }
}

fn keyed(key: &Key) -> Hmac<Sha256> {
    // A key of 32 bytes is padded to the hash's block, so this form cannot fail as
    // `new_from_slice` could.
    let mut block = hmac::digest::Key::<Hmac<Sha256>>::default();
    block[..key.len()].copy_from_slice(key);
    <Hmac<Sha256> as hmac::digest::KeyInit>::new(&block)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hostile_input::{damaged, each};
    use proptest::prelude::*;

    fn signer() -> Signer {
        Signer::new([7; 32])
    }

    #[test]
    fn a_token_proves_its_subject_until_it_expires() {
        let peer = PeerId::new("p").unwrap();
        let token = signer().sign(&peer, 1000).unwrap();
        assert_eq!(signer().verify(&token, 1000 + LIFETIME_S - 1).unwrap(), peer);
        assert_eq!(signer().verify(&token, 1000 + LIFETIME_S), Err(IdentityError::Expired));
        assert_eq!(signer().verify_expired_too(&token).unwrap(), peer);
        assert_eq!(Signer::new([8; 32]).verify(&token, 1000), Err(IdentityError::Invalid));
    }

    #[test]
    fn the_token_does_not_choose_the_algorithm() {
        let claims = URL_SAFE_NO_PAD.encode(r#"{"iss":"sleap-rtc","sub":"p","iat":0,"exp":9999}"#);
        let none = URL_SAFE_NO_PAD.encode(r#"{"alg":"none","typ":"JWT"}"#);
        let signed = format!("{none}.{claims}");
        let mac = URL_SAFE_NO_PAD.encode(signer().mac(&signed).finalize().into_bytes());
        for forged in [format!("{signed}."), format!("{signed}.{mac}")] {
            let token = IdToken::new(forged).unwrap();
            assert_eq!(signer().verify(&token, 1), Err(IdentityError::Invalid));
        }
    }

    #[test]
    fn a_token_for_the_relay_is_none_for_anything_else() {
        let (peer, room) = (PeerId::new("p").unwrap(), RoomId::new("r").unwrap());
        let relay = signer().sign_relay(&peer, &room).unwrap();
        assert_eq!(signer().verify_relay(relay.as_str()), Ok((peer.clone(), room)));
        let as_identity = IdToken::new(relay.as_str()).unwrap();
        assert_eq!(signer().verify(&as_identity, 0), Err(IdentityError::Invalid));
        let identity = signer().sign(&peer, 0).unwrap();
        assert_eq!(signer().verify_relay(identity.as_str()), Err(IdentityError::Invalid));
        assert!(Signer::new([8; 32]).verify_relay(relay.as_str()).is_err());
    }

    #[test]
    fn the_signature_is_the_one_that_rfc_7515_describes() {
        // Appendix A.1 of the RFC, whose key has 64 bytes; ours has 32, padded alike.
        let token = signer().sign(&PeerId::new("p").unwrap(), 0).unwrap();
        let (signed, signature) = token.as_str().rsplit_once('.').unwrap();
        let mut mac = <Hmac<Sha256> as Mac>::new_from_slice(&[7; 32]).unwrap();
        mac.update(signed.as_bytes());
        assert_eq!(signature, URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()));
    }

    #[test]
    fn the_decoder_of_tokens() {
        let peer = PeerId::new("peer-1").unwrap();
        let real = signer().sign(&peer, 5).unwrap();
        let whole = vec![real.as_str().to_owned(), format!("{}.", real.as_str())];
        each("identity tokens", damaged(whole), |text| {
            let Ok(token) = IdToken::new(text) else { return Ok(()) };
            // The last digit of base64 has unused bits; a strict decoder refuses any that are set.
            let proved = signer().verify_expired_too(&token).ok();
            prop_assert_eq!(proved, (token == real).then(|| peer.clone()));
            Ok(())
        });
    }
}
