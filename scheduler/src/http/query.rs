//! Query parameters: each read by name, refused with the accepted form. One that no route knows is
//! refused too: a `dryrun` that was meant as `dryRun` must not carry a request out.

use axum::http::Uri;
use wharfage_billing::timestamp::parse_rfc3339;
use wharfage_shared::time::Timestamp;

use super::fault::Fault;

/// The value of a parameter, decoded.
pub fn value(uri: &Uri, name: &str) -> Option<String> {
    let query = uri.query()?;
    query.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decoded(key) == name).then(|| decoded(value))
    })
}

/// Refuses a parameter that is not one of `known`.
pub fn only(uri: &Uri, known: &[&str]) -> Result<(), Fault> {
    for pair in uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
        let key = decoded(pair.split_once('=').map_or(pair, |(key, _)| key));
        if !known.contains(&key.as_str()) {
            let accepted = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            return Err(Fault::field(&key, "no such query parameter", accepted));
        }
    }
    Ok(())
}

/// `true` or `false`; absent = false.
pub fn flag(uri: &Uri, name: &'static str) -> Result<bool, Fault> {
    match value(uri, name).as_deref() {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(other) => Err(Fault::field(name, format!("it is `{other}`"), "true or false")),
    }
}

/// An instant.
pub fn instant(uri: &Uri, name: &'static str) -> Result<Option<Timestamp>, Fault> {
    let Some(text) = value(uri, name).filter(|text| !text.is_empty()) else { return Ok(None) };
    // `+00:00` sent without escaping arrives as a space.
    let text = text.replace(' ', "+");
    match parse_rfc3339(&text) {
        Ok(at) => Ok(Some(at)),
        Err(error) => {
            let problem = format!("`{}`: {}", error.text, error.problem);
            Err(Fault::field(name, problem, "RFC 3339 in UTC, as in 2026-06-01T00:00:00Z"))
        }
    }
}

/// A whole number up to `most`.
pub fn whole(uri: &Uri, name: &'static str, most: u64) -> Result<Option<u64>, Fault> {
    let Some(text) = value(uri, name) else { return Ok(None) };
    match text.parse().ok().filter(|number| *number <= most) {
        Some(number) => Ok(Some(number)),
        None => {
            let accepted = format!("a whole number from 0 to {most}");
            Err(Fault::field(name, format!("it is `{text}`"), accepted))
        }
    }
}

/// Percent-decoded, `+` as a space; broken escapes stay as they are.
pub fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escaped = (bytes[at] == b'%')
            .then(|| text.get(at + 1..at + 3).and_then(|hex| u8::from_str_radix(hex, 16).ok()))
            .flatten();
        match (bytes[at], escaped) {
            (_, Some(byte)) => {
                plain.push(byte);
                at += 2;
            }
            (b'+', None) => plain.push(b' '),
            (byte, None) => plain.push(byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&plain).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded_and_found_by_name() {
        let uri: Uri = "/x?a=1&updatedAfter=2026-01-01T00%3A00%3A00Z&b=%zz+y".parse().expect("uri");
        assert_eq!(value(&uri, "a").as_deref(), Some("1"));
        assert_eq!(value(&uri, "b").as_deref(), Some("%zz y"));
        assert_eq!(instant(&uri, "updatedAfter"), Ok(Some(Timestamp(1_767_225_600_000))));
        assert_eq!(value(&uri, "c"), None);
        assert_eq!(only(&uri, &["b", "updatedAfter", "a"]), Ok(()));
        assert!(only(&uri, &["a", "b"]).is_err());
        assert!(flag(&uri, "a").is_err());
    }
}
