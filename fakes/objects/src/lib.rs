//! A bucket in memory that speaks as much of S3's protocol as a client needs to keep files in it:
//! put, get, list, delete one or many, upload in parts.
//!
//! It is no store: whoever knows the key's id is let in, signatures are not computed. It can be told to
//! refuse, to answer nothing, and to give damaged files.

mod answers;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::Response;
use jiff::Timestamp;

use answers::{answer, error, listing, percent_decoded, query};

/// How it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    /// As it should.
    Well,
    /// Writes are refused: 403.
    ReadOnly,
    /// Nothing is ever answered.
    Hangs,
}

/// One file.
struct Object {
    bytes: Bytes,
    written: Timestamp,
}

struct Inner {
    access_key_id: String,
    mood: Mood,
    objects: BTreeMap<String, Object>,
    /// Uploads in parts, by their id.
    uploads: BTreeMap<String, BTreeMap<u32, Bytes>>,
    begun: u32,
    requests: u32,
}

/// A bucket that listens on loopback until it is dropped.
pub struct Bucket {
    inner: Arc<Mutex<Inner>>,
    address: SocketAddr,
    // Its thread ends with it.
    _runtime: tokio::runtime::Runtime,
}

impl Bucket {
    /// Starts one that this key opens.
    ///
    /// # Errors
    /// No thread or no port can be had.
    pub fn start(access_key_id: &str) -> std::io::Result<Self> {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let inner = Arc::new(Mutex::new(Inner {
            access_key_id: access_key_id.to_owned(),
            mood: Mood::Well,
            objects: BTreeMap::new(),
            uploads: BTreeMap::new(),
            begun: 0,
            requests: 0,
        }));
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))?;
        let address = listener.local_addr()?;
        let app = Router::new()
            .fallback(serve)
            .layer(DefaultBodyLimit::disable())
            .with_state(Arc::clone(&inner));
        runtime.spawn(async move {
            // Nobody waits for it: it goes on until the bucket is dropped.
            drop(axum::serve(listener, app).await);
        });
        Ok(Self { inner, address, _runtime: runtime })
    }

    /// Where it listens.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on it answers so.
    pub fn set_mood(&self, mood: Mood) {
        self.with(|inner| inner.mood = mood);
    }

    /// Its files, `bucket/folder/file`.
    pub fn keys(&self) -> Vec<String> {
        self.with(|inner| inner.objects.keys().cloned().collect())
    }

    /// Puts other bytes in the place of a file's.
    pub fn damage(&self, key: &str, bytes: &'static [u8]) {
        self.with(|inner| {
            if let Some(object) = inner.objects.get_mut(key) {
                object.bytes = Bytes::from_static(bytes);
            }
        });
    }

    /// So many requests it has heard.
    pub fn requests(&self) -> u32 {
        self.with(|inner| inner.requests)
    }

    fn with<R>(&self, look: impl FnOnce(&mut Inner) -> R) -> R {
        look(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

async fn serve(
    State(inner): State<Arc<Mutex<Inner>>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let mood = {
        let mut inner = inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.requests += 1;
        inner.mood
    };
    if mood == Mood::Hangs {
        std::future::pending::<()>().await;
    }
    let mut inner = inner.lock().unwrap_or_else(PoisonError::into_inner);
    let said = headers.get("authorization").and_then(|value| value.to_str().ok());
    if !said.is_some_and(|said| said.contains(&format!("Credential={}/", inner.access_key_id))) {
        return error(StatusCode::FORBIDDEN, "InvalidAccessKeyId");
    }
    if mood == Mood::ReadOnly && method != Method::GET {
        return error(StatusCode::FORBIDDEN, "AccessDenied");
    }
    let key = percent_decoded(uri.path().trim_start_matches('/'));
    let asked = query(uri.query().unwrap_or_default());
    let number = asked.get("partNumber").and_then(|number| number.parse().ok());
    match (method.as_str(), asked.get("uploadId"), number) {
        ("GET", _, _) if asked.contains_key("list-type") => inner.list(&key, &asked),
        ("GET", _, _) => inner.get(&key),
        ("POST", None, _) if asked.contains_key("uploads") => inner.begin(&key),
        ("POST", None, _) if asked.contains_key("delete") => inner.delete_many(&key, &body),
        ("PUT", Some(upload), Some(number)) => inner.part(upload, number, body),
        ("PUT", None, None) => inner.put(key, body),
        ("POST", Some(upload), _) => inner.finish(key, upload),
        ("DELETE", Some(upload), _) => {
            inner.uploads.remove(upload);
            answer(StatusCode::NO_CONTENT, String::new())
        }
        ("DELETE", None, _) => {
            inner.objects.remove(&key);
            answer(StatusCode::NO_CONTENT, String::new())
        }
        _ => error(StatusCode::NOT_IMPLEMENTED, "NotImplemented"),
    }
}

impl Inner {
    fn list(&self, bucket: &str, asked: &BTreeMap<String, String>) -> Response {
        let none = String::new();
        let prefix = asked.get("prefix").unwrap_or(&none);
        let is_flat = !asked.contains_key("delimiter");
        let within = format!("{}/", bucket.trim_end_matches('/'));
        let found = self.objects.iter().filter_map(|(key, object)| {
            let name = key.strip_prefix(&within)?;
            Some((name, name.strip_prefix(prefix.as_str())?, object))
        });
        let (mut files, mut folders) = (Vec::new(), Vec::new());
        for (name, rest, object) in found {
            match rest.split_once('/').filter(|_| !is_flat) {
                Some((folder, _)) => folders.push(format!("{prefix}{folder}/")),
                None => files.push((name, object.bytes.len(), object.written)),
            }
        }
        folders.dedup();
        answer(StatusCode::OK, listing(&files, &folders))
    }

    fn get(&self, key: &str) -> Response {
        match self.objects.get(key) {
            None => error(StatusCode::NOT_FOUND, "NoSuchKey"),
            Some(object) => answers::file(&object.bytes, object.written),
        }
    }

    fn put(&mut self, key: String, bytes: Bytes) -> Response {
        let newest = self.objects.values().map(|object| object.written).max();
        // Two writes are never of one moment: what is newest stays a question with an answer.
        let after = newest.map_or(Timestamp::UNIX_EPOCH, |at| at + jiff::Span::new().seconds(1));
        let written = Timestamp::now().max(after);
        self.objects.insert(key, Object { bytes, written });
        answers::stored()
    }

    fn begin(&mut self, key: &str) -> Response {
        self.begun += 1;
        let id = format!("upload-{}", self.begun);
        self.uploads.insert(id.clone(), BTreeMap::new());
        let text = format!(
            "<InitiateMultipartUploadResult><Bucket>b</Bucket><Key>{key}</Key>\
             <UploadId>{id}</UploadId></InitiateMultipartUploadResult>"
        );
        answer(StatusCode::OK, text)
    }

    fn part(&mut self, upload: &str, number: u32, bytes: Bytes) -> Response {
        match self.uploads.get_mut(upload) {
            None => error(StatusCode::NOT_FOUND, "NoSuchUpload"),
            Some(parts) => {
                parts.insert(number, bytes);
                answers::stored()
            }
        }
    }

    fn finish(&mut self, key: String, upload: &str) -> Response {
        let Some(parts) = self.uploads.remove(upload) else {
            return error(StatusCode::NOT_FOUND, "NoSuchUpload");
        };
        let whole: Vec<u8> = parts.into_values().flatten().collect();
        let text = format!(
            "<CompleteMultipartUploadResult><Key>{key}</Key><ETag>\"e\"</ETag>\
             </CompleteMultipartUploadResult>"
        );
        drop(self.put(key, Bytes::from(whole)));
        answer(StatusCode::OK, text)
    }

    fn delete_many(&mut self, bucket: &str, body: &[u8]) -> Response {
        let text = String::from_utf8_lossy(body);
        let within = bucket.trim_end_matches('/');
        let keys = text.split("<Key>").skip(1).filter_map(|rest| rest.split("</Key>").next());
        let mut deleted = String::new();
        for key in keys {
            self.objects.remove(&format!("{within}/{key}"));
            deleted.push_str(&format!("<Deleted><Key>{key}</Key></Deleted>"));
        }
        answer(StatusCode::OK, format!("<DeleteResult>{deleted}</DeleteResult>"))
    }
}
