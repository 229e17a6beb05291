//! Answers in S3's words, and its questions read.

use std::collections::BTreeMap;

use axum::body::{Body, Bytes};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use jiff::fmt::rfc2822;

/// A document, or nothing.
pub(crate) fn answer(status: StatusCode, text: String) -> Response {
    (status, [(header::CONTENT_TYPE, "application/xml")], text).into_response()
}

/// A refusal.
pub(crate) fn error(status: StatusCode, code: &str) -> Response {
    answer(status, format!("<Error><Code>{code}</Code><Message>{code}</Message></Error>"))
}

/// A file or a part was taken.
pub(crate) fn stored() -> Response {
    (StatusCode::OK, [(header::ETAG, "\"e\"")]).into_response()
}

/// A file.
pub(crate) fn file(bytes: &Bytes, written: Timestamp) -> Response {
    let date = rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&written);
    let headers =
        [(header::ETAG, "\"e\"".to_owned()), (header::LAST_MODIFIED, date.unwrap_or_default())];
    (StatusCode::OK, headers, Body::from(bytes.clone())).into_response()
}

/// Files with sizes and times, and folders.
pub(crate) fn listing(files: &[(&str, usize, Timestamp)], folders: &[String]) -> String {
    let files = files.iter().map(|(key, size, written)| {
        format!(
            "<Contents><Key>{key}</Key><LastModified>{written}</LastModified>\
             <ETag>\"e\"</ETag><Size>{size}</Size></Contents>"
        )
    });
    let folders = folders
        .iter()
        .map(|folder| format!("<CommonPrefixes><Prefix>{folder}</Prefix></CommonPrefixes>"));
    let all: String = files.chain(folders).collect();
    format!("<ListBucketResult><IsTruncated>false</IsTruncated>{all}</ListBucketResult>")
}

/// The parts of a query.
pub(crate) fn query(text: &str) -> BTreeMap<String, String> {
    let parts = text.split('&').filter(|part| !part.is_empty());
    parts
        .map(|part| {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            (percent_decoded(key), percent_decoded(value))
        })
        .collect()
}

/// `%2F` as `/`.
pub(crate) fn percent_decoded(text: &str) -> String {
    let mut bytes = text.bytes();
    let mut decoded = Vec::new();
    while let Some(byte) = bytes.next() {
        let two = (byte == b'%').then(|| [bytes.next(), bytes.next()]);
        let value = two.and_then(|[high, low]| {
            let digit = |c: Option<u8>| char::from(c?).to_digit(16);
            u8::try_from(digit(high)? * 16 + digit(low)?).ok()
        });
        decoded.push(value.unwrap_or(byte));
    }
    String::from_utf8_lossy(&decoded).into_owned()
}
