//! A message's signature: HMAC-SHA256 (RFC 2104) over the second of sending and the body, so that a
//! receiver knows who says it and that it is not an old one played back.

use sha2::{Digest, Sha256};

/// SHA-256's block.
const BLOCK: usize = 64;

/// The value of `Wharfage-Signature`: `t=<Unix seconds>,v1=<hex>`, over `<seconds>.<body>`.
pub fn signature(secret: &str, at: i64, body: &str) -> String {
    let mac = hmac(secret.as_bytes(), format!("{at}.{body}").as_bytes());
    format!("t={at},v1={}", hex::encode(mac))
}

fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut block = [0u8; BLOCK];
    if key.len() > BLOCK {
        block[..32].copy_from_slice(&Sha256::digest(key));
    } else {
        block[..key.len()].copy_from_slice(key);
    }
    let keyed = |pad: u8| block.map(|byte| byte ^ pad);
    let inner = Sha256::new().chain_update(keyed(0x36)).chain_update(message).finalize();
    Sha256::new().chain_update(keyed(0x5c)).chain_update(inner).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Test cases 1, 2 and 6 of RFC 4231.
    #[test]
    fn it_is_the_hmac_of_rfc_4231() {
        let long: &[u8] = b"Test Using Larger Than Block-Size Key - Hash Key First";
        let cases: [(&[u8], &[u8], &str); 3] = [
            (
                &[0x0b; 20],
                b"Hi There",
                "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
            ),
            (
                b"Jefe",
                b"what do ya want for nothing?",
                "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
            ),
            (
                &[0xaa; 131],
                long,
                "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
            ),
        ];
        for (key, message, expected) in cases {
            assert_eq!(hex::encode(hmac(key, message)), expected);
        }
    }
}
