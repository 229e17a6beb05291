//! The program's edge: exit codes and the sentences that go with them.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::net::TcpSocket;

use crate::installation::{ACME, Installation, client, deployment, soon};

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir()
            .join(format!("wharfage-gateway-program-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("the temporary folder is writable");
        Self(path)
    }

    /// Exit code and everything printed.
    fn run(&self, config: &str, arguments: &[&str]) -> (i32, String) {
        let file = self.0.join("gateway.toml");
        let state = self.0.join("state");
        let text = config.replace("STATE", &format!("state_dir = {:?}", state.display()));
        std::fs::write(&file, text).expect("writable");
        let output = Command::new(env!("CARGO_BIN_EXE_wharfage-gateway"))
            .arg("--config")
            .arg(&file)
            .args(arguments)
            .output()
            .expect("the program starts");
        let printed = [output.stdout, output.stderr].concat();
        let code = output.status.code().expect("it exits by itself");
        (code, String::from_utf8_lossy(&printed).into_owned())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn each_way_to_fail_has_its_code_and_its_sentence() {
    let folder = Folder::new("codes");
    let check = |config: &str| folder.run(config, &["check-config"]);
    assert_eq!(check("STATE").0, 0);
    for (config, told) in [
        ("", "missing field `state_dir`"),
        ("STATE\nlistem = \"127.0.0.1:1\"", "listem"),
        ("STATE\nlisten = \"0.0.0.0:0\"", "give [tls]"),
        ("STATE\n[tls]\ncertificate = \"missing\"\nkey = \"missing\"", "missing"),
    ] {
        let (code, printed) = check(config);
        assert_eq!(code, 78, "{config}: {printed}");
        assert!(printed.contains(told), "{config}: {printed}");
    }
    // A join file may be removed once the gateway has joined; before that it is needed.
    assert_eq!(check("STATE\njoin_file = \"missing\"").0, 0);
    let unjoined = "STATE\nlisten = \"127.0.0.1:0\"\njoin_file = \"missing\"";
    let (code, printed) = folder.run(unjoined, &[]);
    assert_eq!(code, 78, "{printed}");
    assert!(printed.contains("missing"), "{printed}");
    assert_eq!(folder.run("STATE", &["--nonsense"]).0, 64);
    assert_eq!(folder.run("STATE", &["--version"]).0, 0);
    let (code, printed) = folder.run("STATE\nlisten = \"127.0.0.1:0\"", &[]);
    assert_eq!(code, 78, "{printed}");
    assert!(printed.contains("not enrolled yet: give join or join_file"), "{printed}");
}

#[test]
fn a_state_folder_that_cannot_be_used_is_named_with_the_reason() {
    let folder = Folder::new("unusable");
    let identity = folder.0.join("state/identity");
    std::fs::create_dir_all(folder.0.join("state")).expect("writable");
    std::fs::write(&identity, "a file where a folder belongs").expect("writable");
    let join = format!("wharfage-join:v1:127.0.0.1:1:{}:secret", "0".repeat(64));
    let config = format!("STATE\nlisten = \"127.0.0.1:0\"\njoin = \"{join}\"");
    let (code, printed) = folder.run(&config, &[]);
    assert_eq!(code, 78, "{printed}");
    let told = format!("cannot create `{}`: File exists", identity.display());
    assert!(printed.contains(&told), "{printed}");
}

#[test]
fn a_taken_port_or_state_folder_is_named() {
    let folder = Folder::new("taken");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = taken.local_addr().expect("bound").port();
    let (code, printed) = folder.run(&format!("STATE\nlisten = \"127.0.0.1:{port}\""), &[]);
    assert_eq!(code, 69, "{printed}");
    assert!(printed.contains(&format!("listen: port {port} on 127.0.0.1 is in use")), "{printed}");

    let lock = std::fs::File::create(folder.0.join("state/lock")).expect("the folder is there");
    lock.lock().expect("free by now");
    let (code, printed) = folder.run("STATE\nlisten = \"127.0.0.1:0\"", &[]);
    assert_eq!(code, 75, "{printed}");
    assert!(printed.contains("another gateway uses"), "{printed}");
}

/// A child that does not outlive a failed test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended already where the test went well.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn the_program_joins_serves_and_ends_on_a_signal() {
    let all = Installation::start().await;
    let engine = all.engine("node-1").await;
    all.publish(vec![deployment("chat", &[(1, &engine)])]).await;
    let folder = Folder::new("lives");
    // Bound, so that nobody else is given it, and not listening, so that the gateway may.
    let kept = TcpSocket::new_v4().expect("a socket");
    kept.set_reuseaddr(true).expect("an option of sockets");
    kept.bind(([127, 0, 0, 1], 0).into()).expect("a free port");
    let port = kept.local_addr().expect("bound").port();
    let join = folder.0.join("join");
    std::fs::write(&join, format!("{}\n", all.scheduler.join())).expect("writable");
    let file = folder.0.join("gateway.toml");
    let config = format!(
        "listen = \"127.0.0.1:{port}\"\nname = \"door\"\nstate_dir = {:?}\njoin_file = {:?}\n",
        folder.0.join("state").display(),
        join.display(),
    );
    std::fs::write(&file, config).expect("writable");
    let child = Command::new(env!("CARGO_BIN_EXE_wharfage-gateway"))
        .arg("--config")
        .arg(&file)
        .stderr(Stdio::null())
        .spawn()
        .expect("the program starts");
    let mut running = Running(child);
    let url = format!("http://127.0.0.1:{port}");
    let healthy = async {
        let ask = async || client().get(format!("{url}/healthz")).send().await;
        while !ask().await.is_ok_and(|health| health.status() == 200) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    soon("health", healthy).await;
    let chat = client()
        .post(format!("{url}/v1/chat/completions"))
        .header("authorization", format!("Bearer {ACME}"))
        .body(r#"{"model":"chat"}"#);
    assert_eq!(soon("an answer", chat.send()).await.expect("an answer").status(), 200);
    let told = Command::new("kill").arg(running.0.id().to_string()).status().expect("kill runs");
    assert!(told.success());
    let ended = tokio::task::spawn_blocking(move || running.0.wait());
    let status = soon("its end", ended).await.expect("no panic").expect("our child");
    assert_eq!(status.code(), Some(0));
}
