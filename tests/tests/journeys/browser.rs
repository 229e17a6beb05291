//! The dashboard in a real Chromium, signed in with a token as a person would.

use std::process::Stdio;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use wharfage_tests::{Dev, Folder, SOON};

#[tokio::test(flavor = "multi_thread")]
async fn the_dashboard_shows_nodes_and_replicas_to_a_browser() {
    let dev = Dev::start().await;
    let id = dev.deploy("chat", 2, &[], json!({})).await;
    let replica = dev.ready(&id, 1).await.remove(0);

    let url = dev.text("scheduler_url");
    let asked = page(url).await;
    assert!(asked.contains("<form"), "without a session there is a sign-in page: {asked}");
    assert!(!asked.contains("node-1"), "and nothing of the fleet: {asked}");

    let signed_in = signed_in(url, dev.text("token")).await;
    let dom = page(&signed_in).await;
    for word in ["node-1", "node-2", "node-3", "chat", replica["id"].as_str().unwrap()] {
        assert!(dom.contains(word), "`{word}` is on the page: {dom}");
    }
    dev.stop().await;
}

/// What a browser makes of the page.
async fn page(url: &str) -> String {
    let profile = Folder::new("browser");
    let browser = tokio::process::Command::new("chromium")
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .args(["--timeout=50000", "--dump-dom"])
        .arg(format!("{url}/"))
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let page = tokio::time::timeout(SOON, browser).await.expect("the browser ends in time");
    let page = page.expect("chromium runs: tests/prerequisites.sh browser installs it");
    String::from_utf8_lossy(&page.stdout).into_owned()
}

/// Signs in and gives an address at which every request carries the session's cookie.
async fn signed_in(url: &str, token: &str) -> String {
    let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build();
    let answer = http
        .unwrap()
        .post(format!("{url}/signin"))
        .header("Origin", url)
        .header("Content-Type", "application/x-www-form-urlencoded")
        .body(format!("token={token}"))
        .send()
        .await
        .unwrap();
    let cookie = answer.headers().get("set-cookie").expect("a session").to_str().unwrap();
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"), "{cookie}");
    let session = cookie.split(';').next().unwrap().to_owned();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let here = listener.local_addr().unwrap();
    let there = url.trim_start_matches("http://").to_owned();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            // A browser that goes away in the middle is no failure.
            tokio::spawn(with_session(client, there.clone(), session.clone()));
        }
    });
    format!("http://{here}")
}

/// One request with the session's cookie added, one answer.
async fn with_session(mut client: TcpStream, there: String, session: String) -> Option<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await.ok()?);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let kept = head.lines().filter(|line| {
        let name = line.split(':').next().unwrap_or_default().to_ascii_lowercase();
        !line.is_empty() && !["host", "connection", "cookie"].contains(&name.as_str())
    });
    let lines: Vec<&str> = kept.collect();
    let request = format!(
        "{}\r\nHost: {there}\r\nConnection: close\r\nCookie: {session}\r\n\r\n",
        lines.join("\r\n")
    );
    let mut server = TcpStream::connect(&there).await.ok()?;
    server.write_all(request.as_bytes()).await.ok()?;
    tokio::io::copy(&mut server, &mut client).await.ok()?;
    Some(())
}
