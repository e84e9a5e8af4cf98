//! Keys that keep values secret at rest, by envelope: each value has a key of its own, which a master key wraps.
//!
//! The newest master key wraps; older ones open what they wrapped, in backups too. They are in one file, which belongs
//! nowhere near what they protect: whoever has both can read it, and whoever has lost the file cannot.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, MAX_TAG_LEN, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};
use serde_json::{Value, json};

use crate::{Error, file};

/// What a sealed value begins with. No JSON does, nor any text.
const MAGIC: [u8; 4] = *b"\0mp\x01";
/// Bytes of a master key's id, and of a key.
const ID: usize = 8;
const KEY: usize = 32;
/// Bytes of a value's own key as it is wrapped.
const WRAPPED: usize = NONCE_LEN + KEY + MAX_TAG_LEN;
const HEAD: usize = MAGIC.len() + ID + WRAPPED;

/// Master keys, the newest first. There is at least one.
pub struct MasterKeys {
    path: PathBuf,
    keys: Vec<MasterKey>,
}

struct MasterKey {
    id: [u8; ID],
    bytes: [u8; KEY],
}

impl std::fmt::Debug for MasterKeys {
    /// Their ids: a key has no place in a log.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_list().entries(self.ids()).finish()
    }
}

impl MasterKeys {
    /// Reads the keys of a file, which is made with a first one if it is not there.
    ///
    /// # Errors
    /// When the file cannot be made or read, or holds something else.
    pub fn open(path: &Path) -> Result<Self, Error> {
        if let Some(text) = file::read(path)? {
            return Self::parse(path, &text);
        }
        let keys = Self { path: path.to_owned(), keys: vec![MasterKey::random(path)?] };
        path.parent().map_or(Ok(()), file::make_directory)?;
        keys.write()?;
        Ok(keys)
    }

    /// Adds a key before the others, and writes it down: it wraps from now on.
    ///
    /// # Errors
    /// When the file cannot be written; it then stays as it was.
    pub fn rotate(&mut self) -> Result<(), Error> {
        self.keys.insert(0, MasterKey::random(&self.path)?);
        let written = self.write();
        if written.is_err() {
            self.keys.remove(0);
        }
        written
    }

    /// The keys' ids, the newest first.
    pub fn ids(&self) -> impl Iterator<Item = String> + '_ {
        self.keys.iter().map(|key| hexadecimal(&key.id))
    }

    /// A value as it is kept at a place, which no other place can open it at.
    ///
    /// # Errors
    /// When the system gives no random numbers.
    pub fn seal(&self, place: &[u8], value: &[u8]) -> Result<Vec<u8>, Error> {
        let Some(master) = self.keys.first() else { return Err(self.broken("it holds no key")) };
        let mut own = [0; KEY];
        let mut nonce = [0; NONCE_LEN];
        self.fill(&mut own)?;
        self.fill(&mut nonce)?;
        let mut sealed = Vec::with_capacity(HEAD + value.len() + MAX_TAG_LEN);
        sealed.extend_from_slice(&MAGIC);
        sealed.extend_from_slice(&master.id);
        sealed.extend_from_slice(&nonce);
        let mut wrapped = own.to_vec();
        self.encrypt(&master.bytes, nonce, place, &mut wrapped)?;
        sealed.extend_from_slice(&wrapped);
        // Its key seals one value, so there is one nonce.
        let mut text = value.to_vec();
        self.encrypt(&own, [0; NONCE_LEN], place, &mut text)?;
        sealed.extend_from_slice(&text);
        Ok(sealed)
    }

    /// What a sealed value was; `None`: it is none.
    ///
    /// # Errors
    /// When its master key is not among these, or it was changed, or is of another place.
    pub fn open_value(&self, place: &[u8], sealed: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        let Some(rest) = sealed.strip_prefix(&MAGIC) else { return Ok(None) };
        let Some((id, rest)) = rest.split_first_chunk::<ID>() else {
            return Err(self.broken("a value is cut"));
        };
        let Some(master) = self.keys.iter().find(|key| key.id == *id) else {
            return Err(Error::UnknownKey { id: hexadecimal(id), path: self.path.clone() });
        };
        let Some((nonce, rest)) = rest.split_first_chunk::<NONCE_LEN>() else {
            return Err(self.broken("a value is cut"));
        };
        let Some((wrapped, text)) = rest.split_at_checked(KEY + MAX_TAG_LEN) else {
            return Err(self.broken("a value is cut"));
        };
        let own = self.decrypt(&master.bytes, *nonce, place, wrapped)?;
        self.decrypt(&own, [0; NONCE_LEN], place, text).map(Some)
    }

    /// Whether a value is sealed with the newest key.
    pub fn is_current(&self, sealed: &[u8]) -> bool {
        let id = sealed.strip_prefix(&MAGIC).and_then(|rest| rest.first_chunk::<ID>());
        id.is_some() && id == self.keys.first().map(|key| &key.id)
    }

    fn parse(path: &Path, text: &str) -> Result<Self, Error> {
        let mut found = Self { path: path.to_owned(), keys: Vec::new() };
        let tree: Value = serde_json::from_str(text).map_err(|error| found.broken(&error.to_string()))?;
        for key in tree["keys"].as_array().into_iter().flatten() {
            let id = key["id"].as_str().and_then(from_hexadecimal);
            let bytes = key["key"].as_str().and_then(|text| BASE64.decode(text).ok()?.try_into().ok());
            let (Some(id), Some(bytes)) = (id, bytes) else {
                return Err(found.broken("a key needs an id of 16 hexadecimal digits and 32 bytes in base64"));
            };
            found.keys.push(MasterKey { id, bytes });
        }
        if found.keys.is_empty() { Err(found.broken("it holds no key")) } else { Ok(found) }
    }

    fn write(&self) -> Result<(), Error> {
        let keys = self.keys.iter();
        let keys: Vec<Value> =
            keys.map(|key| json!({ "id": hexadecimal(&key.id), "key": BASE64.encode(key.bytes) })).collect();
        let text = serde_json::to_string_pretty(&json!({ "keys": keys })).unwrap_or_default();
        file::write_atomically(&self.path, (text + "\n").as_bytes())
    }

    fn fill(&self, bytes: &mut [u8]) -> Result<(), Error> {
        SystemRandom::new().fill(bytes).map_err(|_| self.broken("the system gives no random numbers"))
    }

    fn encrypt(
        &self,
        key: &[u8; KEY],
        nonce: [u8; NONCE_LEN],
        place: &[u8],
        text: &mut Vec<u8>,
    ) -> Result<(), Error> {
        let nonce = Nonce::assume_unique_for_key(nonce);
        let done = self.cipher(key)?.seal_in_place_append_tag(nonce, Aad::from(place), text);
        done.map_err(|_| self.broken("a value is too long to be encrypted"))
    }

    fn decrypt(
        &self,
        key: &[u8],
        nonce: [u8; NONCE_LEN],
        place: &[u8],
        text: &[u8],
    ) -> Result<Vec<u8>, Error> {
        let mut text = text.to_vec();
        let nonce = Nonce::assume_unique_for_key(nonce);
        let opened = self.cipher(key)?.open_in_place(nonce, Aad::from(place), &mut text);
        let length = opened.map_err(|_| self.broken("a value was changed, or is not of this place"))?.len();
        text.truncate(length);
        Ok(text)
    }

    fn cipher(&self, key: &[u8]) -> Result<LessSafeKey, Error> {
        let key = UnboundKey::new(&AES_256_GCM, key).map_err(|_| self.broken("a key is not of 32 bytes"))?;
        Ok(LessSafeKey::new(key))
    }

    fn broken(&self, why: &str) -> Error {
        Error::Encryption { path: self.path.clone(), why: why.to_owned() }
    }
}

impl MasterKey {
    fn random(path: &Path) -> Result<Self, Error> {
        let (mut id, mut bytes) = ([0; ID], [0; KEY]);
        let random = SystemRandom::new();
        random.fill(&mut id).and_then(|()| random.fill(&mut bytes)).map_err(|_| Error::Encryption {
            path: path.to_owned(),
            why: "the system gives no random numbers".to_owned(),
        })?;
        Ok(Self { id, bytes })
    }
}

fn hexadecimal(id: &[u8]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hexadecimal(text: &str) -> Option<[u8; ID]> {
    let fine = text.len() == 2 * ID && text.bytes().all(|digit| digit.is_ascii_hexdigit());
    fine.then(|| u64::from_str_radix(text, 16).ok().map(u64::to_be_bytes)).flatten()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_value_is_opened_where_it_was_sealed_and_nowhere_else() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("new/keys.json");
        let keys = MasterKeys::open(&path).unwrap();
        let sealed = keys.seal(b"/a", b"hidden").unwrap();
        assert!(!sealed.windows(6).any(|window| window == b"hidden"));
        assert_ne!(keys.seal(b"/a", b"hidden").unwrap(), sealed);
        let again = MasterKeys::open(&path).unwrap();
        assert_eq!(again.open_value(b"/a", &sealed).unwrap().unwrap(), b"hidden");
        assert_eq!(again.open_value(b"/a", b"{}").unwrap(), None);
        assert!(again.open_value(b"/b", &sealed).is_err());
        for index in MAGIC.len()..sealed.len() {
            let mut other = sealed.clone();
            other[index] ^= 1;
            assert!(again.open_value(b"/a", &other).is_err(), "{index}");
            assert!(again.open_value(b"/a", &sealed[..index]).is_err(), "{index}");
        }
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn older_keys_open_what_they_sealed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys.json");
        let mut keys = MasterKeys::open(&path).unwrap();
        let sealed = keys.seal(b"/a", b"").unwrap();
        assert!(keys.is_current(&sealed));
        let before = std::fs::read(&path).unwrap();
        keys.rotate().unwrap();
        assert!(!keys.is_current(&sealed) && !keys.is_current(b"{}"));
        let later = keys.seal(b"/a", b"x").unwrap();
        let again = MasterKeys::open(&path).unwrap();
        assert_eq!(again.ids().count(), 2);
        assert_eq!(again.open_value(b"/a", &sealed).unwrap().unwrap(), b"");
        assert!(again.is_current(&later));
        std::fs::write(&path, before).unwrap();
        let error = MasterKeys::open(&path).unwrap().open_value(b"/a", &later).unwrap_err();
        assert!(error.to_string().contains(&again.ids().next().unwrap()), "{error}");
        for bad in ["", "{}", r#"{"keys":[{"id":"1","key":""}]}"#] {
            std::fs::write(&path, bad).unwrap();
            assert!(MasterKeys::open(&path).is_err(), "{bad}");
        }
    }
}
