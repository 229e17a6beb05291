//! Every wire vector of `tests/notices/`: its answer is sent over a socket, and what is heard is what
//! the file says.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use wharfage_agent::notices::cloud::Cloud;
use wharfage_agent::notices::cloud::client::Client;
use wharfage_agent::notices::cloud::source::{Event, Gone, Heard, Request, Source};
use wharfage_agent::notices::settings::Notices;

/// A vector that takes this long hangs.
const PATIENCE: Duration = Duration::from_secs(30);

struct Vector {
    question: String,
    request: Vec<String>,
    response: Vec<u8>,
    notice: String,
}

impl Vector {
    fn read(path: &Path) -> Self {
        let text = std::fs::read_to_string(path).expect("a vector is text");
        let section = |name: &str| {
            let (_, rest) = text.split_once(&format!("--- {name}\n"))?;
            Some(rest.split("\n--- ").next().unwrap_or(rest).to_owned())
        };
        let must = |name: &str| {
            section(name).unwrap_or_else(|| panic!("{}: no `--- {name}`", path.display()))
        };
        let request = section("request").unwrap_or_default();
        Self {
            question: must("question").trim().to_owned(),
            request: request.lines().map(str::to_owned).collect(),
            response: response(&must("response")),
            notice: must("notice").trim_end_matches('\n').to_owned(),
        }
    }
}

/// The bytes of an answer.
fn response(text: &str) -> Vec<u8> {
    let (head, body) = text.split_once("\n\n").unwrap_or((text, ""));
    let body = match body.split_once(' ') {
        Some(("@escaped", text)) => {
            let text = text.replace("\\r", "\r").replace("\\n", "\n");
            text.replace("\\u{feff}", "\u{feff}").into_bytes()
        }
        Some(("@bytes", text)) => hex::decode(text.trim()).expect("digits"),
        Some(("@repeat", count)) => vec![b' '; count.trim().parse().expect("a count")],
        Some(_) | None => body.as_bytes().to_vec(),
    };
    let mut lines = head.lines();
    let mut head_text = format!("HTTP/1.1 {} Status\r\n", lines.next().expect("a status"));
    let lower = head.to_lowercase();
    for line in lines {
        write!(head_text, "{line}\r\n").expect("memory");
    }
    if !lower.contains("content-length") && !lower.contains("transfer-encoding") {
        write!(head_text, "content-length: {}\r\n", body.len()).expect("memory");
    }
    head_text.push_str("connection: close\r\n\r\n");
    let mut bytes = head_text.into_bytes();
    bytes.extend(body);
    bytes
}

/// Answers one connection; what it was asked comes back.
fn serve(listener: &TcpListener, answer: &[u8]) -> String {
    let (mut stream, _) = listener.accept().expect("a question");
    stream.set_read_timeout(Some(PATIENCE)).expect("an option of sockets");
    let mut asked = Vec::new();
    while !is_whole(&asked) {
        let mut more = [0; 4096];
        match stream.read(&mut more) {
            Ok(count) if count > 0 => asked.extend_from_slice(&more[..count]),
            _ => break,
        }
    }
    // A client that has read enough goes away.
    drop(stream.write_all(answer));
    // It reads what is there before it sees the end.
    drop(stream.shutdown(std::net::Shutdown::Write));
    drop(stream.read(&mut [0; 64]));
    String::from_utf8_lossy(&asked).into_owned()
}

fn is_whole(asked: &[u8]) -> bool {
    let text = String::from_utf8_lossy(asked);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.to_lowercase();
    let length = length.lines().find_map(|line| line.strip_prefix("content-length: "));
    body.len() >= length.and_then(|length| length.parse().ok()).unwrap_or(0)
}

fn request(source: &dyn Source, question: &str) -> Request {
    let settings = Notices::default();
    match question.split_once(' ').unwrap_or((question, "")) {
        ("token", _) => source.token().expect("it has one").request,
        ("name", _) => source.own_name().expect("it has one"),
        ("approve", id) => source.approval(id).expect("it can be approved"),
        (name, _) => {
            let mut all = source.questions(&settings).into_iter();
            all.find(|asked| asked.name == name).expect("a question of this source").request
        }
    }
}

fn heard(source: &dyn Source, vector: &Vector) -> (String, String) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let address = listener.local_addr().expect("bound");
    let (_, host) = source.address();
    let request = request(source, &vector.question);
    let answer = vector.response.clone();
    let serving = std::thread::spawn(move || serve(&listener, &answer));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    let answer = runtime.block_on(Client::new(address, host).ask(&request, PATIENCE));
    drop(runtime);
    let asked = serving.join().expect("no panic");
    let settings = Notices::default();
    let said = match answer {
        Err(why) => format!("error {why}"),
        Ok(answer)
            if ["token", "name"].contains(&vector.question.as_str())
                || vector.question.starts_with("approve") =>
        {
            format!("text {}", answer.text).trim_end().to_owned()
        }
        Ok(answer) => {
            let question = vector.question.as_str();
            let heard = Heard { question, answer: &answer, own_name: "vm-0", settings: &settings };
            match source.read(heard) {
                Err(why) => format!("error {why}"),
                Ok(events) if events.is_empty() => "none".to_owned(),
                Ok(events) => events.iter().map(line).collect::<Vec<_>>().join("\n"),
            }
        }
    };
    (asked, said)
}

/// One event in the words of the vectors.
fn line(event: &Event) -> String {
    let word = |debug: String| debug.to_lowercase();
    let (kind, certainty) =
        (word(format!("{:?}", event.kind)), word(format!("{:?}", event.certainty)));
    let gone = match event.gone {
        Gone::At { at, .. } => {
            let at = jiff::Timestamp::from_millisecond(at.0).expect("a time");
            format!("at {at}")
        }
        Gone::Within(window) => format!("within {window}"),
    };
    let mut line = format!("{kind} {certainty} {gone}");
    if let Some(lead) = event.certain_within {
        write!(line, ", certain within {lead}").expect("memory");
    }
    match event.withdrawn_after {
        Some(after) => write!(line, ", withdrawn after {after}").expect("memory"),
        None => line.push_str(", final"),
    }
    if event.can_acknowledge {
        line.push_str(", can be acknowledged");
    }
    if let Some(odd) = &event.odd {
        write!(line, ", odd: {odd}").expect("memory");
    }
    line
}

/// What a vector says must be sent and was not.
fn missing<'a>(asked: &str, vector: &'a Vector) -> Option<&'a String> {
    let (head, body) = asked.split_once("\r\n\r\n").unwrap_or((asked, ""));
    let mut lines = head.lines();
    let first = lines.next().unwrap_or_default().trim_end_matches(" HTTP/1.1").to_owned();
    let headers: Vec<String> = lines.map(str::to_lowercase).collect();
    let mut expected = vector.request.iter().enumerate();
    let is_sent = |(at, line): (usize, &String)| match line.strip_prefix("body ") {
        Some(text) => text == body,
        None if at == 0 => *line == first,
        None => headers.contains(&line.to_lowercase()),
    };
    expected.find(|(at, line)| !is_sent((*at, line))).map(|(_, line)| line)
}

fn vectors(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("a folder of vectors");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    paths
}

#[test]
fn every_vector_is_heard_as_its_file_says() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/notices");
    let (mut wrong, mut count) = (Vec::new(), 0);
    for cloud in Cloud::ALL {
        // Those without a source tell nothing on the wire.
        let Some(source) = cloud.source() else { continue };
        for path in vectors(&folder.join(cloud.name())) {
            count += 1;
            let vector = Vector::read(&path);
            let (asked, said) = heard(source.as_ref(), &vector);
            let path = path.display();
            let is_as_expected = match vector.notice.starts_with("error ") {
                true => said.starts_with(&vector.notice),
                false => said == vector.notice,
            };
            if !is_as_expected {
                wrong.push(format!("{path}\n  expected {}\n  heard    {said}", vector.notice));
            }
            if let Some(line) = missing(&asked, &vector) {
                wrong.push(format!("{path}\n  not sent: {line}\n  sent: {asked}"));
            }
        }
    }
    assert!(count > 70, "the vectors were not found: {count}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_service_that_does_not_answer_is_let_go_in_time() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let address: SocketAddr = listener.local_addr().expect("bound");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    let client = Client::new(address, "x");
    let request = Request::get("/", &[]);
    let said = runtime.block_on(client.ask(&request, Duration::from_millis(50)));
    assert_eq!(said.map(drop), Err("no answer within 50 ms".to_owned()));
    drop(TcpStream::connect(address));
    drop(listener);
    let said = runtime.block_on(client.ask(&request, PATIENCE)).map(drop);
    assert!(said.is_err_and(|why| why.contains("cannot be reached")), "nobody listens");
}
