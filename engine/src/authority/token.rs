//! Tokens (JWT, RFC 7519): which algorithms there are, the keys that verify them, and whether a signature is right.
//!
//! Owns: all that is said to the library that does it. An algorithm is only taken for a key of its kind, so that nobody signs with a
//! public key as if it were a secret; `none` is no algorithm; what a token says of where its key would be found is not looked at.
//! Touches: bytes only. Never: a clock, a file; what the claims mean is the business of [`super::claims`].

use std::sync::Once;

use jsonwebtoken::crypto::{CryptoProvider, aws_lc};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{DecodingKey, EncodingKey, Header, Validation};
use rustls_pki_types::SubjectPublicKeyInfoDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::{Map, Value, json};

/// Longest token in bytes. Those of identity providers have up to 4 KiB, and a head has to hold it.
pub const TOKEN_BYTES_MAX: usize = 8 << 10;
/// Longest name of a key (`kid`) in bytes.
pub const KID_BYTES_MAX: usize = 255;
/// Shortest secret in bytes: as long as the hash of HS256 (RFC 7518, section 3.2).
pub const SECRET_BYTES_MIN: usize = 32;
/// Keys of one set that are taken, at most.
pub const SET_KEYS_MAX: usize = 64;
/// Shortest RSA modulus in bytes: 2,048 bits (RFC 7518, section 3.3).
const RSA_BYTES_MIN: usize = 256;

/// How a token is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Algorithm(jsonwebtoken::Algorithm);

impl Algorithm {
    /// All that are taken, by name.
    pub const ALL: [(&str, Algorithm); 8] = {
        use jsonwebtoken::Algorithm as A;
        [
            ("HS256", Algorithm(A::HS256)),
            ("HS384", Algorithm(A::HS384)),
            ("HS512", Algorithm(A::HS512)),
            ("RS256", Algorithm(A::RS256)),
            ("PS256", Algorithm(A::PS256)),
            ("ES256", Algorithm(A::ES256)),
            ("ES384", Algorithm(A::ES384)),
            ("EdDSA", Algorithm(A::EdDSA)),
        ]
    };

    /// Finds one by its name.
    #[must_use]
    pub fn named(name: &str) -> Option<Algorithm> {
        Algorithm::ALL.iter().find(|(known, _)| *known == name).map(|(_, algorithm)| *algorithm)
    }

    /// Returns its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        Algorithm::ALL.iter().find(|(_, known)| *known == self).map_or("", |(name, _)| name)
    }

    fn kind(self) -> Kind {
        use jsonwebtoken::Algorithm as A;
        match self.0 {
            A::HS256 | A::HS384 | A::HS512 => Kind::Secret,
            A::ES256 => Kind::P256,
            A::ES384 => Kind::P384,
            A::EdDSA => Kind::Ed25519,
            _ => Kind::Rsa,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Secret,
    Rsa,
    P256,
    P384,
    Ed25519,
}

/// A key that verifies tokens.
#[derive(Clone, Debug)]
pub struct Key {
    kid: Option<Box<str>>,
    kind: Kind,
    /// The only algorithm that it is for, if it says so.
    only: Option<Algorithm>,
    key: DecodingKey,
}

impl Key {
    /// Takes bytes for the secret of HS256, HS384 and HS512. Of a text, line ends behind it are no part: editors and tools add them.
    ///
    /// # Errors
    /// It is too short, or looks like something else.
    pub fn from_secret(bytes: &[u8]) -> Result<Key, &'static str> {
        let secret = secret_in(bytes)?;
        let key = DecodingKey::from_secret(secret).map_err(|_| "it is empty")?;
        Ok(Key { kid: None, kind: Kind::Secret, only: None, key })
    }

    /// Reads a public key: PEM, RSA of at least 2,048 bits, P-256, P-384 or Ed25519.
    ///
    /// # Errors
    /// It is none, or of another kind.
    pub fn from_pem(bytes: &[u8]) -> Result<Key, &'static str> {
        let text = String::from_utf8_lossy(bytes);
        if text.contains("PRIVATE KEY-----") {
            return Err("it is a private key; give the public one (openssl pkey -in KEY -pubout)");
        }
        if text.contains("BEGIN CERTIFICATE") {
            return Err("it is a certificate; give its public key (openssl x509 -in CERT -noout -pubkey)");
        }
        let bad = "it is no public key in PEM";
        let (kind, key) = if text.contains("BEGIN RSA PUBLIC KEY") {
            (Kind::Rsa, DecodingKey::from_rsa_pem(bytes))
        } else {
            let der = SubjectPublicKeyInfoDer::from_pem_slice(bytes).map_err(|_| bad)?;
            let kind = kind_of(&der).ok_or("only RSA, P-256, P-384 and Ed25519 keys are taken")?;
            let key = match kind {
                Kind::P256 | Kind::P384 => DecodingKey::from_ec_pem(bytes),
                Kind::Ed25519 => DecodingKey::from_ed_pem(bytes),
                _ => DecodingKey::from_rsa_pem(bytes),
            };
            (kind, key)
        };
        let key = key.map_err(|_| bad)?;
        // The modulus and what is around it.
        if kind == Kind::Rsa && key.try_get_as_bytes().is_ok_and(|der| der.len() < RSA_BYTES_MIN) {
            return Err("an RSA key has at least 2,048 bits");
        }
        Ok(Key { kid: None, kind, only: None, key })
    }

    /// Reads a key set (RFC 7517); returns its keys, and how many were left out as they are for something else. Secrets are only taken if
    /// told so: what a URL tells everybody is none.
    ///
    /// # Errors
    /// It is none.
    pub fn from_set(bytes: &[u8], secrets: bool) -> Result<(Vec<Key>, usize), &'static str> {
        let set: Value = serde_json::from_slice(bytes).map_err(|_| "it is not JSON")?;
        let alone = [&set];
        let list: Vec<&Value> = match (set.get("keys"), set.get("kty")) {
            (Some(Value::Array(keys)), _) => keys.iter().collect(),
            (None, Some(_)) => alone.to_vec(),
            _ => return Err("it has no list `keys`"),
        };
        let mut keys = Vec::new();
        for key in &list {
            if keys.len() == SET_KEYS_MAX {
                break;
            }
            keys.extend(Key::from_jwk(key).filter(|key| secrets || key.kind != Kind::Secret));
        }
        let left_out = list.len() - keys.len();
        if keys.is_empty() { Err("none of its keys verifies tokens here") } else { Ok((keys, left_out)) }
    }

    fn from_jwk(jwk: &Value) -> Option<Key> {
        let text = |name: &str| jwk.get(name).and_then(Value::as_str);
        let is_for = |name: &str, purpose: &str| match jwk.get(name) {
            None => true,
            Some(Value::String(text)) => text == purpose,
            Some(Value::Array(list)) => list.iter().any(|one| one == purpose),
            Some(_) => false,
        };
        if !is_for("use", "sig") || !is_for("key_ops", "verify") {
            return None;
        }
        let (kind, key) = match (text("kty")?, text("crv")) {
            ("RSA", _) => {
                let (modulus, exponent) = (text("n")?, text("e")?);
                // Four characters are three bytes.
                if modulus.len() * 3 / 4 < RSA_BYTES_MIN {
                    return None;
                }
                (Kind::Rsa, DecodingKey::from_rsa_components(modulus, exponent).ok()?)
            }
            ("EC", Some(curve)) => {
                let (kind, bytes) = match curve {
                    "P-256" => (Kind::P256, 65),
                    "P-384" => (Kind::P384, 97),
                    _ => return None,
                };
                let key = DecodingKey::from_ec_components(text("x")?, text("y")?).ok()?;
                let fits = key.try_get_as_bytes().is_ok_and(|point| point.len() == bytes);
                (kind, fits.then_some(key)?)
            }
            ("OKP", Some("Ed25519")) => {
                let key = DecodingKey::from_ed_components(text("x")?).ok()?;
                let fits = key.try_get_as_bytes().is_ok_and(|point| point.len() == 32);
                (Kind::Ed25519, fits.then_some(key)?)
            }
            ("oct", _) => {
                let jwk: Jwk = serde_json::from_value(json!({ "kty": "oct", "k": text("k")? })).ok()?;
                let key = DecodingKey::from_jwk(&jwk).ok()?;
                let fits = key.try_get_as_bytes().is_ok_and(|secret| secret.len() >= SECRET_BYTES_MIN);
                (Kind::Secret, fits.then_some(key)?)
            }
            _ => return None,
        };
        let only = match jwk.get("alg") {
            None => None,
            Some(name) => Some(Algorithm::named(name.as_str()?).filter(|only| only.kind() == kind)?),
        };
        let kid = text("kid").filter(|kid| kid.len() <= KID_BYTES_MAX).map(Into::into);
        Some(Key { kid, kind, only, key })
    }

    /// Returns its name.
    #[must_use]
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// Says whether it can verify what is signed so.
    #[must_use]
    pub fn takes(&self, algorithm: Algorithm) -> bool {
        self.kind == algorithm.kind() && self.only.is_none_or(|only| only == algorithm)
    }
}

/// Returns the secret in a file.
fn secret_in(bytes: &[u8]) -> Result<&[u8], &'static str> {
    let is_text = bytes.iter().all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace());
    let secret = if is_text { bytes.trim_ascii_end() } else { bytes };
    if secret.starts_with(b"-----BEGIN") || secret.starts_with(b"{") {
        return Err("it is no secret but a key or a key set; say pem:FILE or jwks:FILE");
    }
    if secret.len() < SECRET_BYTES_MIN {
        return Err("a secret has at least 32 bytes; `corecast token --new-key FILE` makes one");
    }
    Ok(secret)
}

/// Reads from a public key what kind it is of: SEQUENCE { SEQUENCE { OID, parameters }, BIT STRING } (RFC 5280, section 4.1).
fn kind_of(der: &[u8]) -> Option<Kind> {
    fn inside(der: &[u8]) -> Option<&[u8]> {
        let (&[tag, length], rest) = der.split_first_chunk()?;
        let long = if length & 0x80 == 0 { 0 } else { usize::from(length & 0x7f) };
        (tag == 0x30).then(|| rest.get(long..))?
    }
    const KINDS: [(&[u8], Kind); 4] = [
        (b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01", Kind::Rsa),
        (b"\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07", Kind::P256),
        (b"\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x05\x2b\x81\x04\x00\x22", Kind::P384),
        (b"\x06\x03\x2b\x65\x70", Kind::Ed25519),
    ];
    let algorithm = inside(inside(der)?)?;
    KINDS.iter().find(|(identifier, _)| algorithm.starts_with(identifier)).map(|(_, kind)| *kind)
}

/// Makes the library use the cryptography that everything here uses; it would have to guess otherwise, and stop the process if it cannot.
fn prepare() {
    static PREPARED: Once = Once::new();
    PREPARED.call_once(|| {
        // Somebody in this process may have: it is the same one.
        let _ = CryptoProvider::install_default(&aws_lc::DEFAULT_PROVIDER);
    });
}

/// What a token says of how it is signed. Nothing of it is to be believed yet.
#[derive(Clone, Debug)]
pub struct Head {
    /// How.
    pub algorithm: Algorithm,
    /// With the key of this name.
    pub kid: Option<String>,
}

/// Reads how a token is signed.
///
/// # Errors
/// What is wrong with it.
pub fn head(token: &str) -> Result<Head, &'static str> {
    if token.len() > TOKEN_BYTES_MAX {
        return Err("the token is longer than 8 KiB");
    }
    let header = jsonwebtoken::decode_header(token)
        .map_err(|_| "the token is none, or its algorithm is not one that is taken here")?;
    let algorithm = Algorithm(header.alg);
    if algorithm.name().is_empty() {
        return Err("the token's algorithm is not one that is taken here");
    }
    if header.crit.is_some() {
        return Err("the token demands something that is not known here (crit)");
    }
    if header.kid.as_ref().is_some_and(|kid| kid.len() > KID_BYTES_MAX) {
        return Err("the name of the token's key is too long");
    }
    Ok(Head { algorithm, kid: header.kid })
}

/// Why a signature is not right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// Somebody else signed.
    Signature,
    /// It is right, and what is signed cannot be read.
    Content,
}

/// Returns the claims of a token that is signed with a key, as they are.
///
/// # Errors
/// It is not signed with it, or is no token.
pub fn verify(token: &str, key: &Key, algorithm: Algorithm) -> Result<Map<String, Value>, Wrong> {
    if !key.takes(algorithm) {
        return Err(Wrong::Signature);
    }
    prepare();
    let mut how = Validation::new(algorithm.0);
    // What the claims mean is not the library's to say.
    how.required_spec_claims.clear();
    (how.validate_exp, how.validate_nbf, how.validate_aud) = (false, false, false);
    match jsonwebtoken::decode::<Map<String, Value>>(token, &key.key, &how) {
        Ok(data) => Ok(data.claims),
        Err(error) => match error.kind() {
            ErrorKind::Json(_) | ErrorKind::Utf8(_) => Err(Wrong::Content),
            _ => Err(Wrong::Signature),
        },
    }
}

/// Reads the claims of a token without asking who signed it: to show them to who holds the token, and for nothing else.
#[must_use]
pub fn unverified(token: &str) -> Option<Map<String, Value>> {
    jsonwebtoken::dangerous::insecure_decode_claims(token).ok()
}

/// Signs claims with a secret, or a private key in PEM (PKCS 8).
///
/// # Errors
/// The key is not one for this algorithm.
pub fn sign(claims: &Value, algorithm: Algorithm, key: &[u8], kid: Option<&str>) -> Result<String, &'static str> {
    prepare();
    let bad = "the key is not one for this algorithm: a secret for HS*, a private key (PEM, PKCS 8) for the others";
    let encoding = match algorithm.kind() {
        Kind::Secret => EncodingKey::from_secret(secret_in(key)?),
        Kind::Rsa => EncodingKey::from_rsa_pem(key),
        Kind::P256 | Kind::P384 => EncodingKey::from_ec_pem(key),
        Kind::Ed25519 => EncodingKey::from_ed_pem(key),
    };
    let mut header = Header::new(algorithm.0);
    header.kid = kid.map(str::to_owned);
    jsonwebtoken::encode(&header, claims, &encoding.map_err(|_| bad)?).map_err(|_| bad)
}
