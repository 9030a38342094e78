//! What a key looks like, and how it is recognised.
//!
//! `fc-<id>-<secret>`: 16 and 64 hexadecimal digits. The secret is 256 random bits, so that one round of a fast hash, salted, is as good as a slow one:
//! there is nothing to guess.

use sha2::{Digest, Sha256};

/// A whole key.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    id: String,
    secret: String,
}

/// Never printed by accident.
impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Secret(fc-{}-…)", self.id)
    }
}

impl Secret {
    pub(super) fn new() -> Result<Secret, String> {
        Ok(Secret { id: hexadecimal(&random::<8>()?), secret: hexadecimal(&random::<32>()?) })
    }

    /// What a caller presents, where it has a key's form.
    pub fn parse(presented: &str) -> Option<Secret> {
        let (id, secret) = presented.strip_prefix("fc-")?.split_once('-')?;
        let digits = |text: &str, count: usize| text.len() == count && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        (digits(id, 16) && digits(secret, 64)).then(|| Secret { id: id.to_owned(), secret: secret.to_owned() })
    }

    /// The public part.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// As a caller presents it.
    pub fn expose(&self) -> String {
        format!("fc-{}-{}", self.id, self.secret)
    }

    pub(super) fn hash(&self, salt: &[u8]) -> [u8; 32] {
        Sha256::new().chain_update(salt).chain_update(self.secret.as_bytes()).finalize().into()
    }

    /// In the same time wherever they differ.
    pub(super) fn matches(&self, salt: &[u8], hash: &[u8]) -> bool {
        let own = self.hash(salt);
        own.len() == hash.len() && own.iter().zip(hash).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
    }
}

pub(super) fn random<const N: usize>() -> Result<[u8; N], String> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|e| format!("this system gives no random bytes: {e}"))?;
    Ok(bytes)
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
