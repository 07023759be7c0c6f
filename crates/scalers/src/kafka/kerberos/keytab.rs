//! Keytabs: files of keys (`keytab_file_format` of MIT Kerberos, version 2).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::crypto::{Etype, Key};
use super::principal::Principal;

/// How a keytab begins: 5, and the version of the format. Base64 does not begin so.
const MAGIC: u8 = 5;
const VERSION: [u8; 2] = [MAGIC, 2];

/// One key in it.
#[derive(Debug)]
struct Entry {
    owner: Principal,
    /// How often the key was changed.
    version: u32,
    etype: i32,
    /// None if it is of a type that we do not have.
    key: Option<Key>,
}

/// The keys of `owner` in a keytab: the newest of each type.
///
/// # Errors
/// It is not a keytab, or has no key for us. The error says what keys there are.
pub(super) fn keys(text: &str, owner: &Principal) -> Result<Vec<Key>, String> {
    let mut entries = read(&bytes(text)?)?;
    // Their order says nothing; of two keys of a type, the later one counts.
    entries.sort_by_key(|entry| (entry.etype, std::cmp::Reverse(entry.version)));
    let mine = || entries.iter().filter(|entry| entry.owner == *owner);
    let mut keys: Vec<Key> = mine().filter_map(|entry| entry.key.clone()).collect();
    keys.dedup_by_key(|key| key.etype);
    if !keys.is_empty() {
        return Ok(keys);
    }
    if mine().next().is_some() {
        return Err(format!("has only keys of {owner} that are older than AES"));
    }
    let mut owners: Vec<String> = entries.iter().map(|entry| entry.owner.to_string()).collect();
    owners.sort();
    owners.dedup();
    Err(format!(
        "has no key of {owner}, only of {}",
        if owners.is_empty() { "nobody".into() } else { owners.join(", ") }
    ))
}

/// The file itself, or in base64.
fn bytes(text: &str) -> Result<Vec<u8>, String> {
    if text.as_bytes().first() == Some(&MAGIC) {
        return Ok(text.as_bytes().to_vec());
    }
    let text: String = text.split_whitespace().collect();
    BASE64.decode(text).map_err(|_| "is neither a keytab nor base64".into())
}

fn read(file: &[u8]) -> Result<Vec<Entry>, String> {
    let mut rest = file.strip_prefix(&VERSION).ok_or("is not a keytab of version 2")?;
    let mut entries = Vec::new();
    while !rest.is_empty() {
        let at = file.len() - rest.len();
        let damaged = || format!("is damaged at byte {at}");
        let size = number(&mut rest).map(i32::from_be_bytes).ok_or_else(damaged)?;
        if size == 0 {
            break;
        }
        let length = usize::try_from(size.unsigned_abs()).map_err(|_| damaged())?;
        let entry = take(&mut rest, length).ok_or_else(damaged)?;
        // A hole that an entry has left is counted backwards.
        if size > 0 {
            entries.push(read_entry(entry).ok_or_else(damaged)?);
        }
    }
    Ok(entries)
}

fn read_entry(mut rest: &[u8]) -> Option<Entry> {
    let count = short(&mut rest)?;
    let realm = text(&mut rest)?;
    let mut parts = Vec::new();
    for _ in 0..count {
        parts.push(text(&mut rest)?);
    }
    let _kind_and_time = take(&mut rest, 8)?;
    let [version] = number(&mut rest)?;
    let etype = i32::from(short(&mut rest)?);
    let length = short(&mut rest)?;
    let key = take(&mut rest, length.into())?;
    // Versions above 255 follow, where there is room for them.
    let version = number(&mut rest).map(u32::from_be_bytes).filter(|long| *long != 0).unwrap_or(version.into());
    let key = Etype::of(etype).and_then(|etype| Key::new(etype, key));
    Some(Entry { owner: Principal { parts, realm }, version, etype, key })
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    rest.split_off(..length)
}

fn number<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    take(rest, N)?.try_into().ok()
}

fn short(rest: &mut &[u8]) -> Option<u16> {
    number(rest).map(u16::from_be_bytes)
}

fn text(rest: &mut &[u8]) -> Option<String> {
    let length = short(rest)?;
    Some(String::from_utf8_lossy(take(rest, length.into())?).into_owned())
}

#[cfg(test)]
mod tests {
    use super::super::noise;
    use super::*;

    /// An entry of a keytab.
    fn entry(name: &str, etype: u8, key: &[u8], [short, long]: [u8; 2]) -> Vec<u8> {
        let counted = |bytes: &[u8]| [&u16::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat();
        let name = Principal::user(name, "R");
        let parts: Vec<u8> = name.parts.iter().flat_map(|part| counted(part.as_bytes())).collect();
        let count = u16::try_from(name.parts.len()).unwrap().to_be_bytes();
        let head = [&count[..], &counted(b"R"), &parts, &[0; 8], &[short, 0, etype]].concat();
        let whole = [head, counted(key), vec![0, 0, 0, long]].concat();
        [&u32::try_from(whole.len()).unwrap().to_be_bytes()[..], &whole].concat()
    }

    fn file() -> Vec<u8> {
        [
            vec![5, 2],
            entry("keda", 18, &[1; 32], [1, 0]),
            // A hole of three bytes.
            vec![0xFF, 0xFF, 0xFF, 0xFD, 1, 2, 3],
            entry("keda", 17, &[2; 16], [9, 0]),
            entry("keda", 18, &[3; 32], [0, 2]),
            entry("keda", 23, &[4; 16], [9, 0]),
            entry("old/host", 23, &[5; 16], [1, 0]),
        ]
        .concat()
    }

    fn keys_of(name: &str, file: &[u8]) -> Result<Vec<Key>, String> {
        keys(&BASE64.encode(file), &Principal::user(name, "R"))
    }

    #[test]
    fn the_newest_key_of_each_type_is_found() {
        let key = |etype, byte| Key::new(etype, &vec![byte; etype.key_bytes()]).unwrap();
        assert_eq!(keys_of("keda", &file()).unwrap(), [key(Etype::Aes128Sha1, 2), key(Etype::Aes256Sha1, 3)]);
        let raw = [vec![5, 2], entry("keda", 17, b"0123456789abcdef", [1, 0])].concat();
        let raw = keys(std::str::from_utf8(&raw).unwrap(), &Principal::user("keda", "R")).unwrap();
        assert_eq!(raw, [Key::new(Etype::Aes128Sha1, b"0123456789abcdef").unwrap()]);
        // What follows an entry of length 0 is not looked at.
        assert!(keys_of("keda", &[&file()[..], &[0, 0, 0, 0, 7]].concat()).is_ok());
    }

    #[test]
    fn what_is_missing_is_said_and_no_key() {
        let other = keys_of("other", &file()).unwrap_err();
        assert_eq!(other, "has no key of other@R, only of keda@R, old/host@R");
        assert_eq!(keys_of("old/host", &file()).unwrap_err(), "has only keys of old/host@R that are older than AES");
        assert_eq!(keys_of("keda", &[5, 2]).unwrap_err(), "has no key of keda@R, only of nobody");
        assert_eq!(keys_of("keda", &[5, 1, 0]).unwrap_err(), "is not a keytab of version 2");
        assert_eq!(keys_of("keda", &file()[..40]).unwrap_err(), "is damaged at byte 2");
        assert_eq!(keys("=(:", &Principal::user("a", "R")).unwrap_err(), "is neither a keytab nor base64");
    }

    #[test]
    fn damaged_bytes_are_no_reason_to_panic() {
        noise(&file(), |bytes| {
            let _ = read(bytes).map(|entries| entries.len());
            let _ = bytes.first().map(|_| keys(&String::from_utf8_lossy(bytes), &Principal::user("a", "R")));
        });
    }
}
