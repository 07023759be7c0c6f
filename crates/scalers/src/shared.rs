//! What triggers with the same login share: one value for all of them, as long as one of them is there.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use aws_lc_rs::digest::{Context, SHA256, SHA256_OUTPUT_LEN};

/// Values by the logins that they are for. Nothing in here keeps a value.
#[derive(Default)]
pub(crate) struct Shared(Mutex<HashMap<Key, Weak<dyn Any + Send + Sync>>>);

/// A digest of a login: the login itself would keep passwords, and a shorter one might be the same for two tenants.
#[derive(PartialEq, Eq, Hash)]
struct Key([u8; SHA256_OUTPUT_LEN]);

impl Shared {
    /// The value for this login; made, if nobody has it.
    ///
    /// # Errors
    /// It could not be made.
    pub(crate) fn get<T: Any + Send + Sync, E>(
        &self,
        login: &impl Hash,
        make: impl FnOnce() -> Result<T, E>,
    ) -> Result<Arc<T>, E> {
        let key = Key::of::<T>(login);
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let there = all.get(&key).and_then(Weak::upgrade).and_then(|there| there.downcast().ok());
        if let Some(there) = there {
            return Ok(there);
        }
        let made = Arc::new(make()?);
        // The places of those that are gone are used again before there are more.
        if all.len() == all.capacity() {
            all.retain(|_, value| value.strong_count() > 0);
        }
        all.insert(key, Arc::<T>::downgrade(&made));
        Ok(made)
    }

    /// How many values there are, and how many places for them.
    #[cfg(test)]
    pub(crate) fn count(&self) -> (usize, usize) {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (all.values().filter(|value| value.strong_count() > 0).count(), all.len())
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl Key {
    fn of<T: 'static>(login: &impl Hash) -> Self {
        let mut digest = Digest(Context::new(&SHA256));
        (TypeId::of::<T>(), login).hash(&mut digest);
        Self(digest.bytes())
    }
}

/// Digests whatever a value is made of. Every value says where it ends, so no two of a type are written the same.
struct Digest(Context);

impl Digest {
    fn bytes(&self) -> [u8; SHA256_OUTPUT_LEN] {
        self.0.clone().finish().as_ref().try_into().expect("SHA-256 has so many bytes")
    }
}

impl Hasher for Digest {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        self.bytes().iter().take(8).fold(0, |number, byte| (number << 8) | u64::from(*byte))
    }
}

#[cfg(test)]
#[path = "shared_tests.rs"]
mod tests;
