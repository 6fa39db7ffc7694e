//! Keys: `msb_` and a JSON Web Token (RFC 7519), signed with HS256 (RFC 7518, 3.2).

use std::{
    sync::Once,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use hmac::{Hmac, KeyInit, Mac};
use jsonwebtoken::{
    Algorithm, DecodingKey, EncodingKey, Header, Validation,
    crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils},
    errors::{Error, ErrorKind},
    signature::{self, Signer, Verifier},
};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use super::{Caller, secret::Secret};
use crate::name::{BadName, Name};

/// What every key begins with.
const PREFIX: &str = "msb_";
/// The namespace of a key to all of them.
const EVERY: &str = "*";

/// A key, as it is told to who asked for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// What is sent with each request.
    pub text: String,
    /// Until when.
    pub expires: SystemTime,
}

#[derive(Debug, Serialize, Deserialize)]
struct Claims {
    exp: u64,
    iat: u64,
    namespace: String,
}

/// Why a key is of no use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BadToken {
    /// It looks like none.
    Shape,
    /// Not signed by us, for another use, or too old.
    Invalid,
}

/// Makes a key for one namespace, or for all.
///
/// # Errors
/// That it can't be written.
pub fn keygen(secret: &Secret, lasts: Duration, namespace: Option<&Name>) -> Result<Token, Error> {
    ready();
    let now = since_1970(SystemTime::now());
    // Far beyond all that anybody can have meant, and within what every reader of JSON counts exactly.
    let exp = now.saturating_add(lasts.as_secs()).min(1 << 42);
    let claims = Claims { exp, iat: now, namespace: namespace.map_or(EVERY, Name::as_str).to_owned() };
    let token = jsonwebtoken::encode(
        &Header::new(Algorithm::HS256),
        &claims,
        &EncodingKey::from_secret(secret.bytes()),
    )?;
    Ok(Token { text: format!("{PREFIX}{token}"), expires: UNIX_EPOCH + Duration::from_secs(exp) })
}

/// Whose key this is.
pub(super) fn check(secret: &Secret, key: &str) -> Result<Caller, BadToken> {
    ready();
    let token = key.strip_prefix(PREFIX).ok_or(BadToken::Shape)?;
    let mut validation = Validation::new(Algorithm::HS256);
    validation.leeway = 0;
    validation.validate_aud = false;
    let data = jsonwebtoken::decode::<Claims>(token, &DecodingKey::from_secret(secret.bytes()), &validation)
        .map_err(|_| BadToken::Invalid)?;
    match data.claims.namespace.as_str() {
        EVERY => Ok(Caller::everywhere()),
        one => Ok(Caller::of(one.parse().map_err(|_: BadName| BadToken::Invalid)?)),
    }
}

/// How long a key lasts: a number and `s`, `m`, `h`, `d`, `w`, `mo` (30 days) or `y` (365); hours without.
///
/// # Errors
/// The text, where it is something else.
pub fn lasting(text: &str) -> Result<Duration, BadLasting> {
    let bad = || BadLasting(text.to_owned());
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit = match unit {
        "s" => 1,
        "m" => 60,
        "" | "h" => 3600,
        "d" => 86_400,
        "w" => 7 * 86_400,
        "mo" => 30 * 86_400,
        "y" => 365 * 86_400,
        _ => return Err(bad()),
    };
    let seconds = number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit)).ok_or_else(bad)?;
    if seconds == 0 { Err(bad()) } else { Ok(Duration::from_secs(seconds)) }
}

/// A text that is no time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no time: give a number and s, m, h, d, w, mo or y, as in 12h or 30d")]
pub struct BadLasting(String);

fn since_1970(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// The one signature that there is here.
struct Hs256(Hmac<Sha256>);

impl Hs256 {
    fn of(algorithm: Algorithm, key: &[u8]) -> Result<Self, Error> {
        if algorithm != Algorithm::HS256 {
            return Err(ErrorKind::InvalidAlgorithm.into());
        }
        Hmac::new_from_slice(key).map(Self).map_err(|_| ErrorKind::InvalidKeyFormat.into())
    }
}

impl Signer<Vec<u8>> for Hs256 {
    fn try_sign(&self, message: &[u8]) -> Result<Vec<u8>, signature::Error> {
        Ok(self.0.clone().chain_update(message).finalize().into_bytes().to_vec())
    }
}

impl Verifier<Vec<u8>> for Hs256 {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), signature::Error> {
        self.0.clone().chain_update(message).verify_slice(signature).map_err(|_| signature::Error::new())
    }
}

impl JwtSigner for Hs256 {
    fn algorithm(&self) -> Algorithm {
        Algorithm::HS256
    }
}

impl JwtVerifier for Hs256 {
    fn algorithm(&self) -> Algorithm {
        Algorithm::HS256
    }
}

/// Tells the library who signs, once in a process. Another that was there first is another's, and as good.
fn ready() {
    static PROVIDER: CryptoProvider = CryptoProvider {
        signer_factory: |algorithm, key| Ok(Box::new(Hs256::of(*algorithm, key.as_bytes())?)),
        verifier_factory: |algorithm, key| Ok(Box::new(Hs256::of(*algorithm, key.try_get_as_bytes()?)?)),
        key_utils: KeyUtils::new_unimplemented(),
    };
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let _ = PROVIDER.install_default();
    });
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn secret() -> Secret {
        Secret::given("0123456789abcdef0123456789abcdef").unwrap()
    }

    fn signed(header: &Header, claims: &serde_json::Value) -> String {
        ready();
        let key = EncodingKey::from_secret(secret().bytes());
        format!("{PREFIX}{}", jsonwebtoken::encode(header, claims, &key).unwrap())
    }

    #[test]
    fn a_key_opens_its_namespace() {
        let hour = Duration::from_secs(3600);
        let all = keygen(&secret(), hour, None).unwrap();
        assert_eq!(check(&secret(), &all.text), Ok(Caller::everywhere()));
        let team: Name = "team".parse().unwrap();
        let one = keygen(&secret(), hour, Some(&team)).unwrap();
        assert_eq!(check(&secret(), &one.text), Ok(Caller::of(team)));
        let left = one.expires.duration_since(SystemTime::now()).unwrap();
        assert!(left <= hour && left > hour - Duration::from_secs(60));
        keygen(&secret(), Duration::MAX, None).unwrap();
    }

    #[test]
    fn forged_old_and_foreign_ones_open_nothing() {
        let good = keygen(&secret(), Duration::from_secs(60), None).unwrap().text;
        let other = Secret::given("another secret, as long").unwrap();
        assert_eq!(check(&other, &good), Err(BadToken::Invalid));
        assert_eq!(check(&secret(), &good[PREFIX.len()..]), Err(BadToken::Shape));
        let header = Header::new(Algorithm::HS256);
        for claims in [
            serde_json::json!({ "exp": 1, "iat": 0, "namespace": "*" }),
            serde_json::json!({ "iat": 0, "namespace": "*" }),
            serde_json::json!({ "exp": 1_u64 << 40, "iat": 0 }),
            serde_json::json!({ "exp": 1_u64 << 40, "iat": 0, "namespace": "../x" }),
        ] {
            assert_eq!(check(&secret(), &signed(&header, &claims)), Err(BadToken::Invalid), "{claims}");
        }
        // RFC 8725, 2.1: a header that says there is no signature.
        let (rest, _) = good.rsplit_once('.').unwrap();
        let (_, claims) = rest.split_once('.').unwrap();
        for forged in
            [format!("{rest}."), format!("msb_eyJhbGciOiJub25lIn0.{claims}."), format!("{rest}.AAAA")]
        {
            assert_eq!(check(&secret(), &forged), Err(BadToken::Invalid), "{forged}");
        }
    }

    #[test]
    fn times_have_units() {
        for (text, seconds) in [
            ("90s", 90),
            ("5m", 300),
            ("2", 7200),
            ("1d", 86_400),
            ("1w", 604_800),
            ("1mo", 2_592_000),
            ("1y", 31_536_000),
        ] {
            assert_eq!(lasting(text), Ok(Duration::from_secs(seconds)));
        }
        for bad in ["", "h", "0h", "-1h", "1x", "1 h", "1.5h", "99999999999999999y"] {
            lasting(bad).unwrap_err();
        }
    }

    proptest! {
        #[test]
        fn no_text_is_a_key(text in "(msb_)?[A-Za-z0-9._-]{0,80}|.*") {
            prop_assert!(check(&secret(), &text).is_err());
        }

        #[test]
        fn no_text_is_more_than_a_time(text in ".{0,12}") {
            let _ = lasting(&text);
        }
    }
}
