//! The port: a task that tells the script at its moments, and one for each connection, which fails
//! as the script wants it to.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::announce::Cloud;
use crate::gcp;
use crate::http::{Answer, Request};
use crate::moments::{now_ms, rfc1123};
use crate::script::{Act, BadScript, Fault, Script};
use crate::world::World;

/// Requests that are remembered.
const MOST_REMEMBERED: usize = 10_000;

/// A client that says nothing for this long is let go.
const PATIENCE: Duration = Duration::from_secs(30);

/// Bigger than anything that a client should read.
const OVERSIZE: usize = 10 * 1024 * 1024;

/// After a failed accept (no descriptors left), time for some connections to end.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Metadata services on one port. They end with it.
pub struct Emulator {
    address: SocketAddr,
    shared: Arc<Shared>,
    clouds: Vec<Cloud>,
    tasks: Vec<JoinHandle<()>>,
}

struct Shared {
    state: Mutex<State>,
    /// Rung by everything that changes an answer.
    changes: watch::Sender<u64>,
    /// Whether each request is said on standard error.
    speaks: bool,
    since: Instant,
}

struct State {
    world: World,
    fault: Option<(Fault, Option<Instant>)>,
    asked: VecDeque<String>,
}

impl Emulator {
    /// Listens at `address` and tells the script from now on. With `speaks`, every request and its
    /// answer are said on standard error.
    pub async fn start(
        address: SocketAddr,
        clouds: &[Cloud],
        script: Script,
        speaks: bool,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let state = State { world: World::new(clouds), fault: None, asked: VecDeque::new() };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            changes: watch::Sender::new(0),
            speaks,
            since: Instant::now(),
        });
        // What holds from the start holds for the first request.
        let (first, later): (Vec<_>, Vec<_>) =
            script.statements.into_iter().partition(|statement| statement.at.is_zero());
        first.iter().for_each(|statement| shared.tell(&statement.act));
        let teller = Arc::clone(&shared);
        let telling = tokio::spawn(async move {
            for statement in later {
                tokio::time::sleep_until(teller.since + statement.at).await;
                teller.tell(&statement.act);
            }
        });
        let serving = tokio::spawn(serve(listener, Arc::clone(&shared)));
        Ok(Self { address, shared, clouds: clouds.to_vec(), tasks: vec![telling, serving] })
    }

    /// Where it listens: `http://127.0.0.1:1234`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Carries statements of the script's language out now, whatever their moments.
    pub fn tell(&self, text: &str) -> Result<(), BadScript> {
        let script = Script::parse(text, "told", &self.clouds)?;
        script.statements.iter().for_each(|statement| self.shared.tell(&statement.act));
        Ok(())
    }

    /// What was asked so far: method and path, with the body of what was posted.
    pub fn asked(&self) -> Vec<String> {
        self.shared.state().asked.iter().cloned().collect()
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
        // Whoever hangs on it is let go.
        self.shared.tell(&Act::Heal);
    }
}

impl Shared {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, act: &Act) {
        let mut state = self.state();
        match act {
            Act::Fail { fault, lasts } => {
                state.fault = Some((fault.clone(), lasts.map(|lasts| Instant::now() + lasts)));
            }
            Act::Heal => state.fault = None,
            act => state.world.take(act),
        }
        drop(state);
        self.changes.send_modify(|changes| *changes += 1);
    }

    /// How requests fail now.
    fn fault(&self) -> Option<(Fault, Option<Instant>)> {
        let mut state = self.state();
        let is_over = |(_, until): &(Fault, Option<Instant>)| {
            until.is_some_and(|until| until <= Instant::now())
        };
        if state.fault.as_ref().is_some_and(is_over) {
            state.fault = None;
        }
        state.fault.clone()
    }

    fn remember(&self, request: &Request) {
        let mut line = format!("{} {}", request.method, request.path);
        if !request.body.is_empty() {
            line.push_str(&format!(" {}", String::from_utf8_lossy(&request.body)));
        }
        let mut state = self.state();
        if state.asked.len() == MOST_REMEMBERED {
            state.asked.pop_front();
        }
        state.asked.push_back(line);
    }

    fn say(&self, request: &Request, what: &str) {
        if self.speaks {
            let since = self.since.elapsed().as_secs_f64();
            eprintln!("{since:.3}s {} {}: {what}", request.method, request.path);
        }
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    // Dropping it ends the conversations.
    let mut conversations = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let shared = Arc::clone(&shared);
                    conversations.spawn(async move {
                        // A client that went away is its own affair.
                        drop(converse(stream, &shared).await);
                    });
                }
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            },
            Some(_) = conversations.join_next() => {}
        }
    }
}

async fn converse(mut stream: TcpStream, shared: &Shared) -> io::Result<()> {
    // The last part of a small answer must not wait for an acknowledgement.
    stream.set_nodelay(true)?;
    let read = tokio::time::timeout(PATIENCE, Request::read(&mut stream)).await;
    let Ok(Some(request)) = read.unwrap_or(Ok(None)) else { return Ok(()) };
    shared.remember(&request);
    let mut is_cut = false;
    let answer = match shared.fault() {
        None => held(&request, shared).await,
        Some((Fault::Status(status), _)) => Answer::of(status, "text/html", "injected"),
        Some((Fault::Html, _)) => {
            Answer::of(200, "text/html", "<!doctype html><title>Sign in</title><p>Welcome")
        }
        Some((Fault::Oversize, _)) => Answer::text(vec![b' '; OVERSIZE]),
        Some((Fault::Redirect(to), _)) => {
            Answer::of(302, "text/html", "moved").with("Location", to)
        }
        Some((Fault::Slow(late), _)) => {
            tokio::time::sleep(late).await;
            held(&request, shared).await
        }
        Some((Fault::Truncate, _)) => {
            is_cut = true;
            held(&request, shared).await
        }
        Some((Fault::Reset, _)) => {
            shared.say(&request, "reset");
            return stream.set_zero_linger();
        }
        Some((Fault::Hang, until)) => {
            shared.say(&request, "hangs");
            return hang(&mut stream, shared, until).await;
        }
    };
    let clock_ms = shared.state().world.clock_ms;
    let mut bytes = answer.bytes(&rfc1123(now_ms().saturating_add(clock_ms)));
    if is_cut {
        // An answer without a body loses the end of its head.
        bytes.truncate(bytes.len() - (answer.body.len() / 2).max(1));
    }
    shared.say(&request, &answer.status.to_string());
    stream.write_all(&bytes).await?;
    stream.shutdown().await
}

/// The answer, as soon as it is another than the one that the client knows or it waited enough.
async fn held(request: &Request, shared: &Shared) -> Answer {
    let mut changes = shared.changes.subscribe();
    if let Some((key, seconds)) = gcp::waits(request) {
        let known = request.asked("last_etag").map(str::to_owned);
        let known = known.unwrap_or_else(|| gcp::etag(&shared.state().world, &key));
        let until = Instant::now() + Duration::from_secs(seconds.min(3600));
        while gcp::etag(&shared.state().world, &key) == known {
            if tokio::time::timeout_at(until, changes.changed()).await.is_err() {
                break;
            }
            // A service that fails now does not hold its clients either.
            if shared.fault().is_some() {
                return Answer::of(503, "text/html", "503 - Service Unavailable");
            }
        }
    }
    shared.state().world.answer(request)
}

/// Says nothing until the client goes, or the fault is over.
async fn hang(stream: &mut TcpStream, shared: &Shared, until: Option<Instant>) -> io::Result<()> {
    let mut changes = shared.changes.subscribe();
    let is_over = async {
        while matches!(shared.fault(), Some((Fault::Hang, _))) {
            match until {
                Some(until) => drop(tokio::time::timeout_at(until, changes.changed()).await),
                None => drop(changes.changed().await),
            }
        }
    };
    let mut more = [0; 64];
    tokio::select! {
        () = is_over => Ok(()),
        read = stream.read(&mut more) => read.map(drop),
    }
}
