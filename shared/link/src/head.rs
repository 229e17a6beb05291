//! Watches the bytes of a connection for request heads that two parsers could read differently.
//!
//! The HTTP library drops the evidence (a `Content-Length` beside a `Transfer-Encoding`, a bare
//! line feed) before a handler sees the request, so the heads are judged here, on the bytes
//! themselves. One verdict per head, in order; a request without a verdict is refused, because then
//! the two readings of the connection have parted.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A head longer than this is refused by the HTTP library too.
pub(crate) const LONGEST_HEAD: usize = 64 << 10;

/// A chunk's size line with extensions, or a trailer line, longer than this is not followed.
const LONGEST_LINE: usize = 8 << 10;

/// Why a head is refused, as a sentence for the client.
pub(crate) type Objection = &'static str;

/// The verdicts of one connection, taken by its requests in order.
#[derive(Clone, Default)]
pub(crate) struct Verdicts(Arc<Mutex<VecDeque<Option<Objection>>>>);

impl Verdicts {
    /// The verdict on the request that has just been read.
    pub fn next(&self) -> Option<Objection> {
        let next = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        next.unwrap_or(Some("the request's framing is ambiguous"))
    }

    fn push(&self, verdict: Option<Objection>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push_back(verdict);
    }
}

/// Where in the stream of bytes we are.
enum At {
    Head(Vec<u8>),
    Body(u64),
    ChunkSize(Vec<u8>),
    ChunkData(u64),
    Trailer {
        line: usize,
        total: usize,
    },
    /// Nothing more is judged: an objection was made or the framing is lost.
    End,
}

/// How the body of a request is framed.
#[derive(Debug, PartialEq, Eq)]
enum Framing {
    Length(u64),
    Chunked,
}

/// Follows one connection.
pub(crate) struct Watch {
    at: At,
    verdicts: Verdicts,
}

impl Watch {
    /// A watch at the beginning of a connection.
    pub fn new(verdicts: Verdicts) -> Self {
        Self { at: At::Head(Vec::new()), verdicts }
    }

    /// Looks at the next bytes of the connection.
    pub fn see(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let used = match &mut self.at {
                At::End => return,
                At::Head(head) => match take_head(head, bytes) {
                    Taken::Part => return,
                    Taken::Whole(used) => {
                        let judged = judge(head);
                        self.verdicts.push(judged.as_ref().err().copied());
                        self.at = match judged {
                            Ok(Framing::Length(0)) => At::Head(Vec::new()),
                            Ok(Framing::Length(length)) => At::Body(length),
                            Ok(Framing::Chunked) => At::ChunkSize(Vec::new()),
                            Err(_) => At::End,
                        };
                        used
                    }
                    Taken::Refused(objection) => {
                        self.verdicts.push(Some(objection));
                        self.at = At::End;
                        return;
                    }
                },
                At::Body(left) => {
                    let (used, done) = skip(left, bytes);
                    if done {
                        self.at = At::Head(Vec::new());
                    }
                    used
                }
                At::ChunkSize(line) => {
                    let (used, size) = take_size(line, bytes);
                    match size {
                        Size::Part => {}
                        Size::Lost => self.at = At::End,
                        Size::Of(0) => self.at = At::Trailer { line: 0, total: 0 },
                        // The data's own CRLF is skipped with it.
                        Size::Of(size) => self.at = At::ChunkData(size.saturating_add(2)),
                    }
                    used
                }
                At::ChunkData(left) => {
                    let (used, done) = skip(left, bytes);
                    if done {
                        self.at = At::ChunkSize(Vec::new());
                    }
                    used
                }
                At::Trailer { line, total } => match bytes[0] {
                    b'\n' if *line == 0 => {
                        self.at = At::Head(Vec::new());
                        1
                    }
                    _ if *total > LONGEST_LINE => {
                        self.at = At::End;
                        return;
                    }
                    byte => {
                        *total += 1;
                        match byte {
                            b'\n' => *line = 0,
                            b'\r' => {}
                            _ => *line += 1,
                        }
                        1
                    }
                },
            };
            bytes = &bytes[used..];
        }
    }
}

enum Taken {
    Part,
    Whole(usize),
    Refused(Objection),
}

/// Adds bytes to the head until its empty line.
fn take_head(head: &mut Vec<u8>, bytes: &[u8]) -> Taken {
    let mut used = 0;
    if head.is_empty() {
        // Empty lines before a request line are skipped by every parser.
        used = bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
    }
    while used < bytes.len() {
        let rest = &bytes[used..];
        let line = rest.iter().position(|byte| *byte == b'\n').map_or(rest, |end| &rest[..=end]);
        used += line.len();
        head.extend_from_slice(line);
        if head.ends_with(b"\n") && !head.ends_with(b"\r\n") {
            return Taken::Refused("a line of the head ends without a carriage return");
        }
        if head.len() > LONGEST_HEAD {
            return Taken::Refused("the head is longer than 64 KiB");
        }
        if head.ends_with(b"\r\n\r\n") {
            return Taken::Whole(used);
        }
    }
    Taken::Part
}

/// Skips up to `left` bytes; whether that was all.
fn skip(left: &mut u64, bytes: &[u8]) -> (usize, bool) {
    let here = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    let skipped = here.min(*left);
    *left -= skipped;
    (usize::try_from(skipped).unwrap_or(bytes.len()), *left == 0)
}

enum Size {
    Part,
    Of(u64),
    Lost,
}

/// Reads a chunk's size line.
fn take_size(line: &mut Vec<u8>, bytes: &[u8]) -> (usize, Size) {
    let end = bytes.iter().position(|byte| *byte == b'\n');
    let used = end.map_or(bytes.len(), |end| end + 1);
    line.extend_from_slice(&bytes[..used]);
    if line.len() > LONGEST_LINE {
        return (used, Size::Lost);
    }
    if end.is_none() {
        return (used, Size::Part);
    }
    let text = String::from_utf8_lossy(line);
    let digits = text.split(';').next().unwrap_or_default().trim();
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    match u64::from_str_radix(digits, 16) {
        Ok(size) if plain => (used, Size::Of(size)),
        _ => (used, Size::Lost),
    }
}

/// How the body is framed, or why the head is refused.
fn judge(head: &[u8]) -> Result<Framing, Objection> {
    let mut lines = head.split(|byte| *byte == b'\n').map(|line| line.trim_ascii_end());
    let request_line = lines.next().unwrap_or_default();
    if !request_line.ends_with(b" HTTP/1.1") {
        return Err("only HTTP/1.1 is spoken here");
    }
    let (mut hosts, mut lengths, mut encodings) = (0, Vec::new(), Vec::new());
    for line in lines.filter(|line| !line.is_empty()) {
        if matches!(line[0], b' ' | b'\t') {
            return Err("a header is folded over two lines");
        }
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            return Err("a header line has no colon");
        };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if name.eq_ignore_ascii_case(b"host") {
            hosts += 1;
        } else if name.eq_ignore_ascii_case(b"content-length") {
            lengths.push(value);
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            encodings.push(value);
        } else if name.is_empty() || name.iter().any(|byte| byte.is_ascii_whitespace()) {
            return Err("a header's name holds a space");
        }
    }
    if hosts != 1 {
        return Err("exactly one Host header is expected");
    }
    match (lengths.as_slice(), encodings.as_slice()) {
        ([], []) => Ok(Framing::Length(0)),
        ([length], []) => parse_length(length),
        ([], [encoding]) if encoding.eq_ignore_ascii_case(b"chunked") => Ok(Framing::Chunked),
        ([], _) => Err("Transfer-Encoding may only be `chunked`, once"),
        (_, []) => Err("Content-Length is given more than once"),
        _ => Err("Content-Length and Transfer-Encoding exclude each other"),
    }
}

fn parse_length(value: &[u8]) -> Result<Framing, Objection> {
    let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(value).unwrap_or_default();
    match text.parse() {
        Ok(length) if digits => Ok(Framing::Length(length)),
        _ => Err("Content-Length is no number"),
    }
}

/// A connection whose incoming bytes are watched.
pub(crate) struct Watched<S> {
    stream: S,
    watch: Watch,
}

impl<S> Watched<S> {
    /// Watches `stream` from its first byte.
    pub fn new(stream: S, verdicts: Verdicts) -> Self {
        Self { stream, watch: Watch::new(verdicts) }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let this = &mut *self;
        let polled = Pin::new(&mut this.stream).poll_read(cx, buf);
        if let Poll::Ready(Ok(())) = &polled {
            this.watch.see(&buf.filled()[before..]);
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The verdicts on `bytes`, fed in pieces of `piece`.
    fn verdicts(bytes: &[u8], piece: usize) -> Vec<Option<Objection>> {
        let verdicts = Verdicts::default();
        let mut watch = Watch::new(verdicts.clone());
        for part in bytes.chunks(piece) {
            watch.see(part);
        }
        let found = verdicts.0.lock().unwrap_or_else(PoisonError::into_inner);
        found.iter().copied().collect()
    }

    #[test]
    fn pipelined_requests_each_get_their_verdict_however_the_bytes_are_cut() {
        let bytes = b"\r\nPOST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello\
            POST / HTTP/1.1\r\nhost:a\r\ntransfer-encoding: Chunked\r\n\r\n\
            5;x=y\r\nhello\r\nA\r\n0123456789\r\n0\r\nTrailer: 1\r\n\r\n\
            GET / HTTP/1.1\r\nHost: a\r\n\r\n\
            GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n\
            GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        for piece in 1..bytes.len() {
            let objection = Some("exactly one Host header is expected");
            assert_eq!(verdicts(bytes, piece), [None, None, None, objection], "piece {piece}");
        }
    }

    #[test]
    fn what_two_parsers_could_read_differently_is_refused() {
        for head in [
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3, 3\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551616\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\
             Transfer-Encoding: chunked\r\n\r\n",
            "GET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\nHost: a\n\n",
            "GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n c\r\n\r\n",
            "GET / HTTP/1.0\r\nHost: a\r\n\r\n",
            "GET /\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nnonsense\r\n\r\n",
        ] {
            let found = verdicts(head.as_bytes(), 7);
            assert!(matches!(found.as_slice(), [Some(_)]), "{head:?} gave {found:?}");
        }
    }

    #[test]
    fn a_lost_framing_leaves_later_requests_without_a_verdict() {
        let bytes = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
            0x5\r\nhello\r\n0\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n";
        assert_eq!(verdicts(bytes, 9), [None]);
        let none_left = Verdicts::default();
        assert!(none_left.next().is_some());
    }
}
