//! Delivery of encrypted keys: a document key for content keys, encrypted to whoever may read them (CPIX 2.4, 6.1).
//!
//! RSA-OAEP (SHA-1, MGF1-SHA-1) for the document key and the MAC key, AES-256-CBC for content keys, HMAC-SHA-512 over
//! initialisation vector and ciphertext. A MAC is demanded: CBC without one tells a sender of documents what it must not.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::fmt;

use aws_lc_rs::cipher::{
    AES_256, DecryptionContext, EncryptionContext, PaddedBlockDecryptingKey, PaddedBlockEncryptingKey, UnboundCipherKey,
};
use aws_lc_rs::rsa::{
    OAEP_SHA1_MGF1SHA1, OaepPrivateDecryptingKey, OaepPublicEncryptingKey, PrivateDecryptingKey, PublicEncryptingKey,
};
use aws_lc_rs::{hmac, rand};
use packager::crypto::{ContentKey, KeyId};
use x509_cert::Certificate;
use x509_cert::der::{Decode, Encode, pem};
use zeroize::Zeroizing;

use super::cpix::Delivery;

/// Encryption of content keys.
pub const AES_256_CBC: &str = "http://www.w3.org/2001/04/xmlenc#aes256-cbc";
/// Encryption of the document key and the MAC key.
pub const RSA_OAEP_MGF1P: &str = "http://www.w3.org/2001/04/xmlenc#rsa-oaep-mgf1p";
/// `ValueMAC`
pub const HMAC_SHA_512: &str = "http://www.w3.org/2001/04/xmldsig-more#hmac-sha512";

/// Bytes of a certificate.
pub const CERTIFICATE_SIZE_BYTES_MAX: usize = 16_384;

const IV_SIZE: usize = 16;
const DOCUMENT_KEY_SIZE: usize = 32;
const MAC_KEY_SIZE: usize = 64;
/// Shorter ones are no secret.
const MAC_KEY_SIZE_MIN: usize = 16;

/// Something encrypted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EncryptedValue {
    /// `EncryptionMethod@Algorithm`
    pub algorithm: String,
    /// `CipherValue`; for AES the initialisation vector comes first.
    pub bytes: Vec<u8>,
    /// `ValueMAC`
    pub mac: Option<Vec<u8>>,
}

/// Why keys are not encrypted or not opened. Says nothing of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeliveryError {
    /// Not an X.509 certificate, or not one of an RSA key of 2,048 to 8,192 bits.
    #[error("not a certificate of an RSA key of 2048 to 8192 bits")]
    Certificate,
    /// Not a PKCS #8 key in PEM, or not one of RSA.
    #[error("not an RSA private key in PKCS #8")]
    PrivateKey,
    /// The keys are encrypted and there is nothing to decrypt them with.
    #[error("the keys are encrypted and no private key is known")]
    NoKey,
    /// The document is not for this key.
    #[error("the document is not delivered to this key")]
    NotDelivered,
    /// Encrypted in a way that is not read.
    #[error("an algorithm that is not read")]
    Algorithm,
    /// Without `MACMethod` or `ValueMAC`.
    #[error("encrypted keys without a MAC")]
    NoMac,
    /// A key was changed on its way, or is not one.
    #[error("an encrypted key does not open")]
    Integrity,
    /// The document names a key and does not hold it.
    #[error("key {0} is not in the document")]
    Absent(KeyId),
    /// The random number generator failed.
    #[error("no randomness")]
    Randomness,
}

/// Whoever may read keys: the holder of a certificate's key.
#[derive(Clone, PartialEq, Eq)]
pub struct Recipient {
    certificate: Vec<u8>,
    public_key: Vec<u8>,
}

impl fmt::Debug for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Recipient")
    }
}

impl Recipient {
    /// From an X.509 certificate, DER. Its dates and its issuer are not looked at: the operator or the encryptor chose it.
    pub fn from_der(certificate: &[u8]) -> Result<Recipient, DeliveryError> {
        if certificate.len() > CERTIFICATE_SIZE_BYTES_MAX {
            return Err(DeliveryError::Certificate);
        }
        let parsed = Certificate::from_der(certificate).map_err(|_| DeliveryError::Certificate)?;
        let public_key = parsed.tbs_certificate.subject_public_key_info.to_der();
        let recipient = Recipient {
            certificate: certificate.to_vec(),
            public_key: public_key.map_err(|_| DeliveryError::Certificate)?,
        };
        recipient.encrypting_key()?;
        Ok(recipient)
    }

    /// From an X.509 certificate, PEM.
    pub fn from_pem(text: &str) -> Result<Recipient, DeliveryError> {
        match pem::decode_vec(text.as_bytes()) {
            Ok(("CERTIFICATE", der)) => Recipient::from_der(&der),
            _ => Err(DeliveryError::Certificate),
        }
    }

    /// The certificate, DER.
    pub fn certificate(&self) -> &[u8] {
        &self.certificate
    }

    fn encrypting_key(&self) -> Result<OaepPublicEncryptingKey, DeliveryError> {
        PublicEncryptingKey::from_der(&self.public_key)
            .ok()
            .and_then(|key| OaepPublicEncryptingKey::new(key).ok())
            .ok_or(DeliveryError::Certificate)
    }

    fn encrypt(&self, secret: &[u8]) -> Result<EncryptedValue, DeliveryError> {
        let key = self.encrypting_key()?;
        let mut bytes = vec![0; key.ciphertext_size()];
        let size = key
            .encrypt(&OAEP_SHA1_MGF1SHA1, secret, &mut bytes, None)
            .map_err(|_| DeliveryError::Certificate)?
            .len();
        bytes.truncate(size);
        Ok(EncryptedValue {
            algorithm: RSA_OAEP_MGF1P.to_owned(),
            bytes,
            mac: None,
        })
    }
}

/// The private key that documents are delivered to.
pub struct DeliveryKey(OaepPrivateDecryptingKey);

impl DeliveryKey {
    /// From PKCS #8 in PEM (`BEGIN PRIVATE KEY`), RSA.
    pub fn from_pem(text: &str) -> Result<DeliveryKey, DeliveryError> {
        let Ok(("PRIVATE KEY", der)) = pem::decode_vec(text.as_bytes()) else {
            return Err(DeliveryError::PrivateKey);
        };
        let der = Zeroizing::new(der);
        PrivateDecryptingKey::from_pkcs8(&der)
            .ok()
            .and_then(|key| OaepPrivateDecryptingKey::new(key).ok())
            .map(DeliveryKey)
            .ok_or(DeliveryError::PrivateKey)
    }

    fn decrypt(&self, value: &EncryptedValue) -> Result<Zeroizing<Vec<u8>>, DeliveryError> {
        if value.algorithm != RSA_OAEP_MGF1P {
            return Err(DeliveryError::Algorithm);
        }
        let mut secret = Zeroizing::new(vec![0; self.0.min_output_size()]);
        let size = self
            .0
            .decrypt(&OAEP_SHA1_MGF1SHA1, &value.bytes, &mut secret, None)
            .map_err(|_| DeliveryError::NotDelivered)?
            .len();
        secret.truncate(size);
        Ok(secret)
    }
}

/// The key that the content keys of one document are encrypted with, and the key of their MACs.
pub struct DocumentKey {
    key: Zeroizing<[u8; DOCUMENT_KEY_SIZE]>,
    mac_key: Zeroizing<Vec<u8>>,
}

impl DocumentKey {
    /// A new one.
    pub fn generate() -> Result<DocumentKey, DeliveryError> {
        let mut key = Zeroizing::new([0; DOCUMENT_KEY_SIZE]);
        let mut mac_key = Zeroizing::new(vec![0; MAC_KEY_SIZE]);
        rand::fill(key.as_mut()).map_err(|_| DeliveryError::Randomness)?;
        rand::fill(&mut mac_key).map_err(|_| DeliveryError::Randomness)?;
        Ok(DocumentKey { key, mac_key })
    }

    /// Encrypted to a recipient.
    pub fn deliver(&self, recipient: &Recipient) -> Result<Delivery, DeliveryError> {
        Ok(Delivery {
            certificate: recipient.certificate.clone(),
            document_key: Some(recipient.encrypt(self.key.as_ref())?),
            mac_key: Some(recipient.encrypt(&self.mac_key)?),
            mac_algorithm: Some(HMAC_SHA_512.to_owned()),
        })
    }

    /// A content key, encrypted under a new initialisation vector, with its MAC.
    pub fn encrypt(&self, key: &ContentKey) -> Result<EncryptedValue, DeliveryError> {
        let mut iv = [0; IV_SIZE];
        rand::fill(&mut iv).map_err(|_| DeliveryError::Randomness)?;
        let mut bytes = iv.to_vec();
        bytes.extend_from_slice(&encrypt_cbc(&self.key, iv, key.expose()).ok_or(DeliveryError::Integrity)?);
        let mac = hmac::sign(&self.hmac(), &bytes).as_ref().to_vec();
        Ok(EncryptedValue {
            algorithm: AES_256_CBC.to_owned(),
            bytes,
            mac: Some(mac),
        })
    }

    /// A content key, once its MAC was found right.
    pub fn decrypt(&self, value: &EncryptedValue) -> Result<ContentKey, DeliveryError> {
        if value.algorithm != AES_256_CBC {
            return Err(DeliveryError::Algorithm);
        }
        let mac = value.mac.as_ref().ok_or(DeliveryError::NoMac)?;
        hmac::verify(&self.hmac(), &value.bytes, mac).map_err(|_| DeliveryError::Integrity)?;
        let (iv, encrypted) = value
            .bytes
            .split_first_chunk::<IV_SIZE>()
            .ok_or(DeliveryError::Integrity)?;
        let mut bytes = Zeroizing::new(encrypted.to_vec());
        let context = DecryptionContext::Iv128((*iv).into());
        let opened = UnboundCipherKey::new(&AES_256, self.key.as_ref())
            .and_then(PaddedBlockDecryptingKey::cbc_pkcs7)
            .map_err(|_| DeliveryError::Integrity)?;
        let clear = opened
            .decrypt(&mut bytes, context)
            .map_err(|_| DeliveryError::Integrity)?;
        let key = <[u8; 16]>::try_from(&*clear).map_err(|_| DeliveryError::Integrity)?;
        Ok(ContentKey::new(key))
    }

    fn hmac(&self) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA512, &self.mac_key)
    }
}

/// AES-256-CBC with PKCS #7 padding.
pub(crate) fn encrypt_cbc(key: &[u8; 32], iv: [u8; IV_SIZE], clear: &[u8]) -> Option<Vec<u8>> {
    let key = UnboundCipherKey::new(&AES_256, key).ok()?;
    let key = PaddedBlockEncryptingKey::cbc_pkcs7(key).ok()?;
    let mut bytes = clear.to_vec();
    key.less_safe_encrypt(&mut bytes, EncryptionContext::Iv128(iv.into()))
        .ok()?;
    Some(bytes)
}

/// The document key, from the delivery that is for `key`.
pub fn open(deliveries: &[Delivery], key: &DeliveryKey) -> Result<DocumentKey, DeliveryError> {
    let mut error = DeliveryError::NotDelivered;
    for delivery in deliveries {
        match open_one(delivery, key) {
            Err(DeliveryError::NotDelivered) => {}
            Err(other) => error = other,
            opened => return opened,
        }
    }
    Err(error)
}

fn open_one(delivery: &Delivery, key: &DeliveryKey) -> Result<DocumentKey, DeliveryError> {
    let document_key = delivery.document_key.as_ref().ok_or(DeliveryError::NotDelivered)?;
    let document_key = key.decrypt(document_key)?;
    let document_key = document_key
        .as_slice()
        .try_into()
        .map_err(|_| DeliveryError::Integrity)?;
    match delivery.mac_algorithm.as_deref() {
        Some(HMAC_SHA_512) => {}
        Some(_) => return Err(DeliveryError::Algorithm),
        None => return Err(DeliveryError::NoMac),
    }
    let mac_key = delivery.mac_key.as_ref().ok_or(DeliveryError::NoMac)?;
    let mac_key = key.decrypt(mac_key)?;
    if mac_key.len() < MAC_KEY_SIZE_MIN {
        return Err(DeliveryError::Integrity);
    }
    Ok(DocumentKey {
        key: Zeroizing::new(document_key),
        mac_key,
    })
}
