//! The examples of RFC 3961, 3962 and 8009.

use super::*;

pub(in crate::kafka::kerberos) fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u32> = text.chars().filter_map(|digit| digit.to_digit(16)).collect();
    digits.chunks(2).map(|pair| u8::try_from(pair[0] * 16 + pair[1]).unwrap()).collect()
}

#[test]
fn texts_are_folded_as_in_rfc_3961() {
    for (text, length, wanted) in [
        ("012345", 8, "be072631276b1955"),
        ("password", 7, "78a07b6caf85fa"),
        ("Rough Consensus, and Running Code", 8, "bb6ed30870b7f0e0"),
        ("password", 21, "59e4a8ca7c0385c3c37b3f6d2000247cb6e6bd5b3e"),
        ("MASSACHVSETTS INSTITVTE OF TECHNOLOGY", 24, "db3b0d8f0b061e603282b308a50841229ad798fab9540c1b"),
        ("Q", 21, "518a54a2 15a8452a 518a54a2 15a8452a 518a54a2 15"),
        ("ba", 21, "fb25d531ae8974499f52fd92ea9857c4ba24cf297e"),
        ("kerberos", 16, "6b65726265726f737b9b5b2b93132b93"),
    ] {
        assert_eq!(n_fold(text.as_bytes(), length), hex(wanted), "{text} {length}");
    }
}

#[test]
fn passwords_become_keys_as_in_rfc_3962() {
    let key = |etype, rounds| {
        let rounds = NonZeroU32::new(rounds).unwrap();
        Key::hashed(etype, "password", b"ATHENA.MIT.EDUraeburn", rounds).bytes
    };
    assert_eq!(key(Etype::Aes128Sha1, 1), hex("42263c6e89f4fc28b8df68ee09799f15"));
    assert_eq!(key(Etype::Aes128Sha1, 1_200), hex("4c01cd46d632d01e6dbe230a01ed642a"));
    let wanted = "fe697b52bc0d3ce14432ba036a92e65bbb52280990a2fa27883998d72af30161";
    assert_eq!(key(Etype::Aes256Sha1, 1), hex(wanted));
    let wanted = "55a6ac740ad17b4846941051e1e8b0a7548d93b0ab30a8bc3ff16280382b8c2a";
    assert_eq!(key(Etype::Aes256Sha1, 1_200), hex(wanted));
}

#[test]
fn passwords_become_keys_as_in_rfc_8009() {
    let salt = [hex("10df9dd783e5bc8acea1730e74355f61"), b"ATHENA.MIT.EDUraeburn".to_vec()].concat();
    let key = |etype| Key::of_password(etype, "password", &salt, Some(&[0, 0, 0x80, 0])).unwrap();
    assert_eq!(key(Etype::Aes128Sha2).bytes, hex("089bca48b105ea6ea77ca5d2f39dc5e7"));
    let wanted = "45bd806dbf6a833a9cffc1c94589a222367a79bc21c413718906e9f578a78467";
    assert_eq!(key(Etype::Aes256Sha2).bytes, hex(wanted));
}

#[test]
fn a_kdc_that_wants_a_password_hashed_seldom_gets_nothing() {
    let key = |parameters: &[u8]| Key::of_password(Etype::Aes256Sha1, "password", b"salt", Some(parameters));
    for parameters in [&[0, 0, 0, 1][..], &[0, 0, 0, 0], &[0xFF, 0xFF, 0xFF, 0xFF], &[], &[0x10, 0]] {
        assert!(key(parameters).is_err(), "{parameters:?}");
    }
    assert_eq!(key(&[0, 0, 0x10, 0]), Key::of_password(Etype::Aes256Sha1, "password", b"salt", None));
}

/// Of its appendix A, for key usage 2.
#[test]
fn keys_for_a_use_are_those_of_rfc_8009() {
    let key = Key::new(Etype::Aes128Sha2, &hex("3705d96080c17728a0e800eab6e0d23c")).unwrap();
    let derived = |key: &Key, purpose, length| key.derived(&[0, 0, 0, 2, purpose], length);
    assert_eq!(derived(&key, 0x99, 16), hex("b31a018a48f54776f403e9a396325dc3"));
    assert_eq!(derived(&key, 0xAA, 16), hex("9b197dd1e8c5609d6e67c3e37c62c72e"));
    assert_eq!(derived(&key, 0x55, 16), hex("9fda0e56ab2d85e1569a688696c26a6c"));
    let long = "6d404d37faf79f9df0d33568d320669800eb4836472ea8a026d16b7182460c52";
    let key = Key::new(Etype::Aes256Sha2, &hex(long)).unwrap();
    assert_eq!(derived(&key, 0x99, 24), hex("ef5718be86cc84963d8bbb5031e9f5c4ba41f28faf69e73d"));
    let wanted = "56ab22bee63d82d7bc5227f6773f8ea7a5eb1c825160c38312980c442e5c7e49";
    assert_eq!(derived(&key, 0xAA, 32), hex(wanted));
    assert_eq!(derived(&key, 0x55, 24), hex("69b16514e3cd8e56b82010d5c73012b622c4d00ffc23ed1f"));
}

#[test]
fn what_is_encrypted_is_decrypted_with_the_same_key_for_the_same_use_only() {
    for etype in Etype::ALL {
        let key = Key::hashed(etype, "password", b"salt", NonZeroU32::MIN);
        let other = Key::hashed(etype, "Password", b"salt", NonZeroU32::MIN);
        for length in 0..70 {
            let text = vec![7; length];
            let sealed = key.encrypt(Usage::Authenticator, &text, [9; BLOCK]);
            assert_eq!(sealed.len(), BLOCK + length + etype.checksum_bytes());
            assert_eq!(key.decrypt(Usage::Authenticator, &sealed), Some(text));
            assert_eq!(key.decrypt(Usage::ApReply, &sealed), None);
            assert_eq!(other.decrypt(Usage::Authenticator, &sealed), None);
            let mut changed = sealed.clone();
            changed[length] ^= 1;
            assert_eq!(key.decrypt(Usage::Authenticator, &changed), None);
            assert_eq!(key.decrypt(Usage::Authenticator, &sealed[..length]), None);
        }
        assert_eq!(format!("{key:?}"), format!("Key {{ etype: {etype:?}, .. }}"));
        let sum = key.checksum(Usage::TgsBody, b"text");
        assert!(key.confirms(Usage::TgsBody, b"text", &sum) && !key.confirms(Usage::TgsBody, b"Text", &sum));
    }
}
