//! A server whose every answer the test writes, on a port that first refuses everybody.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

type Answers = Arc<Mutex<BTreeMap<String, (u16, String)>>>;

/// The imitation of one engine.
pub struct Server {
    /// Where it listens, once it does.
    pub port: u16,
    answers: Answers,
    asked: Arc<Mutex<Vec<String>>>,
    open: Arc<AtomicBool>,
    listening: Option<JoinHandle<()>>,
}

impl Server {
    /// Nobody listens yet: a port that was free a moment ago refuses.
    pub fn new() -> Self {
        let port = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound");
        Self {
            port: port.port(),
            answers: Answers::default(),
            asked: Arc::default(),
            open: Arc::new(AtomicBool::new(true)),
            listening: None,
        }
    }

    /// From now on `GET /path` or `POST /path` is answered like this; all others with 404.
    pub fn says(&mut self, answers: &[(&str, u16, &str)]) {
        let rows = answers
            .iter()
            .map(|(ask, status, body)| ((*ask).to_owned(), (*status, (*body).to_owned())));
        *self.answers.lock().expect("not poisoned") = rows.collect();
        if self.listening.is_none() {
            let listener = TcpListener::bind(("127.0.0.1", self.port)).expect("still free");
            let (answers, asked) = (Arc::clone(&self.answers), Arc::clone(&self.asked));
            let open = Arc::clone(&self.open);
            self.listening = Some(std::thread::spawn(move || {
                for stream in listener.incoming() {
                    if !open.load(Ordering::SeqCst) {
                        return;
                    }
                    if let Ok(stream) = stream {
                        answer(stream, &answers, &asked);
                    }
                }
            }));
        }
    }

    /// It ends: everybody is refused again.
    pub fn ends(&mut self) {
        if let Some(listening) = self.listening.take() {
            self.open.store(false, Ordering::SeqCst);
            // A last visitor, so that it sees the word.
            drop(TcpStream::connect(("127.0.0.1", self.port)));
            listening.join().expect("it ended well");
            self.open.store(true, Ordering::SeqCst);
        }
    }

    /// What it was asked, first line and body, in order.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("not poisoned").clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.ends();
    }
}

fn answer(mut stream: TcpStream, answers: &Answers, asked: &Mutex<Vec<String>>) {
    drop(stream.set_read_timeout(Some(Duration::from_secs(10))));
    let Some((ask, body)) = request(&mut stream) else { return };
    let known = answers.lock().expect("not poisoned").get(&ask).cloned();
    let (status, text) = known.unwrap_or((404, "{\"detail\":\"Not Found\"}".to_owned()));
    asked.lock().expect("not poisoned").push(format!("{ask} {body}"));
    let head = format!(
        "HTTP/1.1 {status} Said\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        text.len()
    );
    drop(stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(text.as_bytes())));
}

/// `METHOD /path` and the body.
fn request(stream: &mut TcpStream) -> Option<(String, String)> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| {
                line.to_lowercase().strip_prefix("content-length: ")?.parse::<usize>().ok()
            });
            if body.len() >= length.unwrap_or(0) {
                let mut words = head.split(' ');
                return Some((format!("{} {}", words.next()?, words.next()?), body.to_owned()));
            }
        }
        match stream.read(&mut chunk) {
            Ok(0) | Err(_) => return None,
            Ok(count) => bytes.extend_from_slice(&chunk[..count]),
        }
    }
}
