//! Certificates, with which a room's authority vouches for devices.
//!
//! A certificate names a device, its role, and its expiry. Workers show theirs to clients, and
//! clients theirs to workers. The authority's key belongs to the room, so a certificate is valid in
//! one room only.

use crate::device::{DeviceId, DeviceKey, SIGNATURE_BYTES};
use crate::encoding;
use serde::{Deserialize, Serialize};
use sleap_rtc_protocol::text::Printable;
use std::{fmt, str::FromStr};

/// The longest name, in characters and in bytes.
const MAX_NAME_CHARS: usize = 64;
const MAX_NAME_BYTES: usize = 255;
/// How far the clocks of two devices may differ, in seconds.
const CLOCKS_DIFFER_S: u64 = 24 * 3600;
const PURPOSE: &[u8] = b"sleap-rtc certificate 1";

/// The role of a device in a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MemberRole {
    /// Submits jobs.
    Client,
    /// Runs jobs.
    Worker,
}

impl MemberRole {
    fn byte(self) -> u8 {
        match self {
            Self::Client => 1,
            Self::Worker => 2,
        }
    }

    fn from_byte(byte: u8) -> Option<Self> {
        [Self::Client, Self::Worker].into_iter().find(|role| role.byte() == byte)
    }
}

impl fmt::Display for MemberRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Client => "client",
            Self::Worker => "worker",
        })
    }
}

/// The subject of a certificate, and its validity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// The device.
    pub device: DeviceId,
    /// Its role.
    pub role: MemberRole,
    /// Its name for people: at most 64 visible characters.
    pub name: Printable,
    /// The start of its validity, in seconds since 1970.
    pub issued_s: u64,
    /// The end of its validity, in seconds since 1970. `None` means forever.
    pub not_after_s: Option<u64>,
}

impl Subject {
    /// A subject that is valid forever from `now_s`. Shortens a name that is too long.
    pub fn new(device: DeviceId, role: MemberRole, name: &str, now_s: u64) -> Self {
        let name = printable_name(name);
        Self { device, role, name, issued_s: now_s, not_after_s: None }
    }

    /// The same until `not_after_s`, in seconds since 1970.
    #[must_use]
    pub fn until(self, not_after_s: Option<u64>) -> Self {
        Self { not_after_s, ..self }
    }

    /// The bytes that the authority signs.
    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![self.role.byte()];
        bytes.extend_from_slice(self.device.as_bytes());
        bytes.extend_from_slice(&self.issued_s.to_be_bytes());
        // 0 means forever, because nothing expires in 1970.
        bytes.extend_from_slice(&self.not_after_s.unwrap_or(0).to_be_bytes());
        bytes.extend_from_slice(self.name.as_str().as_bytes());
        bytes
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let (role, rest) = bytes.split_first()?;
        let (device, rest) = rest.split_first_chunk::<32>()?;
        let (issued, rest) = rest.split_first_chunk::<8>()?;
        let (not_after, name) = rest.split_first_chunk::<8>()?;
        let name = std::str::from_utf8(name).ok()?;
        let printable = printable_name(name);
        Some(Self {
            device: DeviceId::from_bytes(*device).ok()?,
            role: MemberRole::from_byte(*role)?,
            name: (printable.as_str() == name).then_some(printable)?,
            issued_s: u64::from_be_bytes(*issued),
            not_after_s: Some(u64::from_be_bytes(*not_after)).filter(|until| *until != 0),
        })
    }
}

/// A device's name in the form of certificates.
pub(crate) fn printable_name(name: &str) -> Printable {
    let mut limit = MAX_NAME_CHARS;
    loop {
        let printable = Printable::line(name, limit);
        if printable.as_str().len() <= MAX_NAME_BYTES {
            return printable;
        }
        limit -= 1;
    }
}

/// A subject that an authority has signed. As text: URL-safe base64.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Certificate {
    subject: Subject,
    signature: [u8; SIGNATURE_BYTES],
}

/// Why a certificate is invalid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// The text is no certificate.
    #[error("its certificate is malformed")]
    Malformed,
    /// Another key has signed it.
    #[error("its certificate is not signed by this room's authority")]
    Authority,
    /// It belongs to another device.
    #[error("its certificate belongs to another device")]
    Device,
    /// It is for the other role.
    #[error("its certificate is for a {0}")]
    Role(MemberRole),
    /// It has expired.
    #[error("its certificate has expired; renew it by pairing again")]
    Expired,
    /// It begins in the future.
    #[error("its certificate begins in the future; check the clocks of both machines")]
    Future,
}

impl Certificate {
    /// Signs `subject`.
    pub fn issue(authority: &DeviceKey, subject: Subject) -> Self {
        let signature = authority.sign(&encoding::joined(&[PURPOSE, &subject.to_bytes()]));
        Self { subject, signature }
    }

    /// The subject. Check the certificate before you trust it.
    pub fn subject(&self) -> &Subject {
        &self.subject
    }

    /// Checks that `authority` certifies `device` as a `role` at `now_s`, in seconds since 1970.
    ///
    /// # Errors
    /// The certificate is invalid.
    pub fn check(
        &self,
        authority: &DeviceId,
        device: &DeviceId,
        role: MemberRole,
        now_s: u64,
    ) -> Result<(), CertificateError> {
        let Subject { device: of, role: may_be, issued_s, not_after_s, .. } = &self.subject;
        let signed = encoding::joined(&[PURPOSE, &self.subject.to_bytes()]);
        if !authority.has_signed(&signed, &self.signature) {
            return Err(CertificateError::Authority);
        }
        if of != device {
            return Err(CertificateError::Device);
        }
        if *may_be != role {
            return Err(CertificateError::Role(*may_be));
        }
        if not_after_s.is_some_and(|until| until < now_s) {
            return Err(CertificateError::Expired);
        }
        if *issued_s > now_s.saturating_add(CLOCKS_DIFFER_S) {
            return Err(CertificateError::Future);
        }
        Ok(())
    }
}

impl FromStr for Certificate {
    type Err = CertificateError;

    fn from_str(text: &str) -> Result<Self, CertificateError> {
        let parse = || {
            let bytes = encoding::bytes(text)?;
            let (subject, signature) = bytes.split_last_chunk::<SIGNATURE_BYTES>()?;
            Some(Self { subject: Subject::parse(subject)?, signature: *signature })
        };
        parse().ok_or(CertificateError::Malformed)
    }
}

impl fmt::Display for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = self.subject.to_bytes();
        bytes.extend_from_slice(&self.signature);
        f.write_str(&encoding::text(&bytes))
    }
}

impl TryFrom<String> for Certificate {
    type Error = CertificateError;

    fn try_from(text: String) -> Result<Self, CertificateError> {
        text.parse()
    }
}

impl From<Certificate> for String {
    fn from(certificate: Certificate) -> Self {
        certificate.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(seed: u8) -> DeviceKey {
        DeviceKey::from_bytes([seed; 32])
    }

    #[test]
    fn a_certificate_is_for_one_room_device_role_and_time() {
        let (authority, device) = (key(1), key(2).id());
        let subject = Subject {
            not_after_s: Some(2_000),
            ..Subject::new(device, MemberRole::Worker, "gpu2", 1_000)
        };
        let certificate = Certificate::issue(&authority, subject);
        let check = |authority: DeviceKey, device, role, now_s| {
            certificate.check(&authority.id(), &device, role, now_s)
        };
        assert_eq!(check(key(1), device, MemberRole::Worker, 2_000), Ok(()));
        let refused = [
            (check(key(3), device, MemberRole::Worker, 1_000), CertificateError::Authority),
            (check(key(1), key(3).id(), MemberRole::Worker, 1_000), CertificateError::Device),
            (
                check(key(1), device, MemberRole::Client, 1_000),
                CertificateError::Role(MemberRole::Worker),
            ),
            (check(key(1), device, MemberRole::Worker, 2_001), CertificateError::Expired),
        ];
        for (checked, why) in refused {
            assert_eq!(checked, Err(why));
        }
        let late = Subject::new(device, MemberRole::Client, "", CLOCKS_DIFFER_S + 1);
        let late = Certificate::issue(&authority, late);
        let checked = late.check(&authority.id(), &device, MemberRole::Client, 0);
        assert_eq!(checked, Err(CertificateError::Future));
    }

    proptest! {
        #[test]
        fn a_certificate_survives_as_text(
            name in ".{0,80}", issued_s: u64, not_after_s in prop::option::of(1..u64::MAX),
        ) {
            let subject = Subject::new(key(2).id(), MemberRole::Client, &name, issued_s);
            let certificate = Certificate::issue(&key(1), Subject { not_after_s, ..subject });
            let read: Certificate = certificate.to_string().parse().unwrap();
            prop_assert_eq!(&read, &certificate);
            prop_assert!(certificate.subject().name.as_str().chars().count() <= MAX_NAME_CHARS);
        }

        #[test]
        fn what_is_changed_does_not_count(at in 0..1_000usize, bit in 0..8u32) {
            let device = key(2).id();
            let subject = Subject::new(device, MemberRole::Worker, "gpu2", 1_000);
            let certificate = Certificate::issue(&key(1), subject);
            let mut bytes = encoding::bytes(&certificate.to_string()).unwrap();
            let at = at % bytes.len();
            bytes[at] ^= 1 << bit;
            let counts = encoding::text(&bytes).parse::<Certificate>().and_then(|changed| {
                changed.check(&key(1).id(), &device, MemberRole::Worker, 1_000)
            });
            prop_assert!(counts.is_err());
        }
    }
}
