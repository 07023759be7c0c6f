//! Blocks of AES, chained as Kerberos does.

use aws_lc_rs::cipher::{
    AES_128, AES_256, AES_256_KEY_LEN, DecryptingKey, DecryptionContext, EncryptingKey, EncryptionContext,
    UnboundCipherKey,
};
use aws_lc_rs::iv::FixedLength;

/// Bytes of a block.
pub(super) const BLOCK: usize = 16;
const WHOLE: &str = "keys of AES have 16 or 32 bytes, and texts are whole blocks";

fn aes(key: &[u8]) -> UnboundCipherKey {
    UnboundCipherKey::new(if key.len() == AES_256_KEY_LEN { &AES_256 } else { &AES_128 }, key).expect(WHOLE)
}

/// CBC with an IV of zeros, in whole blocks.
pub(super) fn cbc_encrypt(key: &[u8], blocks: &mut [u8]) {
    let iv = EncryptionContext::Iv128(FixedLength::from([0; BLOCK]));
    EncryptingKey::cbc(aes(key)).and_then(|key| key.less_safe_encrypt(blocks, iv)).expect(WHOLE);
}

fn cbc_decrypt(key: &[u8], blocks: &mut [u8]) {
    let iv = DecryptionContext::Iv128(FixedLength::from([0; BLOCK]));
    let key = DecryptingKey::cbc(aes(key)).expect(WHOLE);
    key.decrypt(blocks, iv).expect(WHOLE);
}

/// CBC with ciphertext stealing (RFC 3962, 5): as long as the text, which has a block or more.
pub(super) fn cts_encrypt(key: &[u8], text: &mut Vec<u8>) {
    let length = text.len();
    text.resize(length.next_multiple_of(BLOCK), 0);
    cbc_encrypt(key, text);
    swap_last(text);
    text.truncate(length);
}

/// The text that became this.
pub(super) fn cts_decrypt(key: &[u8], text: &mut Vec<u8>) {
    let length = text.len();
    let whole = length.next_multiple_of(BLOCK);
    if let Some(start) = whole.checked_sub(2 * BLOCK) {
        // What the short block at the end lacks is in the one before, which is the last of the chain.
        let mut last = text[start..start + BLOCK].to_vec();
        cbc_decrypt(key, &mut last);
        text.extend(&last[length - start - BLOCK..]);
        swap_last(text);
    }
    cbc_decrypt(key, text);
    text.truncate(length);
}

fn swap_last(blocks: &mut [u8]) {
    if let Some(start) = blocks.len().checked_sub(2 * BLOCK) {
        let (one, other) = blocks[start..].split_at_mut(BLOCK);
        one.swap_with_slice(other);
    }
}

#[cfg(test)]
mod tests {
    use super::super::crypto::tests::hex;
    use super::*;

    #[test]
    fn ciphertext_is_stolen_as_in_rfc_3962() {
        let key = b"chicken teriyaki";
        let text = b"I would like the General Gau's Chicken, please, and wonton soup.";
        for (length, wanted) in [
            (17, "c6353568f2bf8cb4d8a580362da7ff7f 97"),
            (31, "fc00783e0efdb2c1d445d4c8eff7ed22 97687268d6ecccc0c07b25e25ecfe5"),
            (32, "39312523a78662d5be7fcbcc98ebf5a8 97687268d6ecccc0c07b25e25ecfe584"),
            (47, "97687268d6ecccc0c07b25e25ecfe584 b3fffd940c16a18c1b5549d2f838029e 39312523a78662d5be7fcbcc98ebf5"),
            (48, "97687268d6ecccc0c07b25e25ecfe584 9dad8bbb96c4cdc03bc103e1a194bbd8 39312523a78662d5be7fcbcc98ebf5a8"),
        ] {
            let mut sealed = text[..length].to_vec();
            cts_encrypt(key, &mut sealed);
            assert_eq!(sealed, hex(wanted), "{length}");
            cts_decrypt(key, &mut sealed);
            assert_eq!(sealed, text[..length], "{length}");
        }
    }
}
