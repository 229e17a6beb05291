//! The guard's life: start the engine, serve, obey, enforce the serving lease, write the end down.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use wharfage_agent_sys::cgroup::Cgroup;
use wharfage_agent_sys::{clock, process};
use wharfage_link::identity::IdentityDir;
use wharfage_link::tls;
use wharfage_shared::replica::Ended;
use wharfage_shared::time::{Boottime, Millis};

use super::control::{self, Seen};
use super::engine::Engine;
use super::logs::Load;
use super::record::{Claim, Command, Folder, Params, Record};
use super::{last_words, pump};
use crate::engines::failures::{Failure, Kind};
use crate::supervised;

/// From the end of the serving lease to SIGKILL: half of the scheduler's kill budget of 20 s.
const LEASE_KILL_AFTER: Millis = Millis::from_seconds(10);

/// A replica of which two must never run has this long until its agent must have said how long
/// it may serve: an agent that died in between must not leave it running for ever.
const FIRST_WORD: Millis = Millis::from_seconds(5);

/// The boot-time clock runs on through suspend and tokio's does not: it is looked at this often.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How long a connected agent has to read the end before the guard is gone.
const LAST_WORD: Duration = Duration::from_millis(200);

/// Runs one guard to its end. The error is one sentence, also for `guard.err.log`.
pub fn run(params_path: &Path) -> Result<(), String> {
    let folder = Folder::of_params(params_path);
    let params = folder
        .params()
        .map_err(|error| format!("the guard does not know what to start: {error}"))?;
    let done = prepared(&params, &folder);
    if let Err(why) = &done {
        // The agent reads it here whoever keeps the guard's own output.
        drop(folder.note_failure(why));
    }
    done
}

fn prepared(params: &Params, folder: &Folder) -> Result<(), String> {
    process::lead_session().map_err(|error| format!("the guard gets no session: {error}"))?;
    process::adopt_orphans().map_err(|error| format!("the guard cannot adopt orphans: {error}"))?;
    if let Some(cgroup) = params.cgroup.as_deref().and_then(Cgroup::existing) {
        cgroup
            .enter(std::process::id())
            .map_err(|error| format!("the guard cannot enter its control group: {error}"))?;
    }
    tls::install();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| format!("the guard gets no threads: {error}"))?;
    runtime.block_on(guard(params, folder)).map_err(|error| error.to_string())
}

struct Guard<'a> {
    folder: &'a Folder,
    params: Params,
    engine: Engine,
    engine_port: Arc<AtomicU16>,
    load: watch::Sender<Load>,
    /// The engine was told to end, by whomever.
    asked: bool,
    record: watch::Sender<Option<Record>>,
    serve_until: Option<Boottime>,
    lease_over: bool,
}

async fn guard(params: &Params, folder: &Folder) -> io::Result<()> {
    let _not_ended_by_a_limit = supervised::outlive_file_limit()?;
    let identity = IdentityDir::new(&params.identity_dir);
    let acceptor = tls::guard_acceptor(identity).map_err(io::Error::other)?;
    let listener = TcpListener::bind((params.listen_ip, 0)).await.map_err(|error| {
        io::Error::other(format!("the guard cannot listen on {}: {error}", params.listen_ip))
    })?;
    let address = format!("{}:{}", params.advertise_host, listener.local_addr()?.port());
    let control = control::listen(folder)?;
    let (commands, mut orders) = mpsc::channel(16);
    let (record, seen_record) = watch::channel(None);
    let (load, seen_load) = watch::channel::<Load>(None);
    let mut children = signal(SignalKind::child())?;
    let mut asked_to_end = signal(SignalKind::terminate())?;
    let own = process::identify(std::process::id())
        .ok_or_else(|| io::Error::other("the process table does not list the guard"))?;
    if !folder.claim(&Claim::Guard(own))? {
        return Err(io::Error::other("the start was given up before the guard came to it"));
    }
    let started_at = clock::boottime();
    let engine = Engine::start(params, folder, load.clone())?;
    let first = Record {
        guard: own,
        engine: Some(engine.id),
        address,
        started_at,
        asked: false,
        ended: None,
        because: None,
        failure: None,
        port_clashes: 0,
    };
    folder.write_record(&first)?;
    record.send_replace(Some(first));
    let seen = Seen { record: seen_record, load: seen_load };
    tokio::spawn(control::serve(control, commands, seen));
    let stop = CancellationToken::new();
    let engine_port = Arc::new(AtomicU16::new(params.engine_port));
    tokio::spawn(pump::serve(listener, acceptor, Arc::clone(&engine_port), stop.clone()));
    let serve_until = params.order.single_copy.then(|| started_at + FIRST_WORD);
    let mut guard = Guard {
        folder,
        params: params.clone(),
        engine,
        engine_port,
        load,
        asked: false,
        record,
        serve_until,
        lease_over: false,
    };
    let (ended, failure) = loop {
        let ended = guard.watch(&mut orders, &mut children, &mut asked_to_end, &stop).await;
        guard.engine.clear_away().await;
        let was_asked = guard.asked || folder.was_asked();
        let failure = (!was_asked).then(|| last_words::read(folder, &guard.params, &ended));
        let clashed = failure.as_ref().is_some_and(|failure| failure.kind == Some(Kind::Port));
        match clashed.then(|| guard.start_on_another_port()) {
            Some(Ok(true)) => {}
            Some(Ok(false)) | None => break (ended, failure),
            Some(Err(error)) => {
                break (Ended::NeverStarted { because: error.to_string() }, failure);
            }
        }
    };
    stop.cancel();
    guard.engine.leave_group();
    let written = guard.write_end(ended, failure);
    tokio::time::sleep(LAST_WORD).await;
    written
}

impl Guard<'_> {
    /// Until the engine has ended.
    async fn watch(
        &mut self,
        orders: &mut mpsc::Receiver<Command>,
        children: &mut Signal,
        asked_to_end: &mut Signal,
        stop: &CancellationToken,
    ) -> Ended {
        let mut look = tokio::time::interval(LOOK_EVERY);
        loop {
            tokio::select! {
                Some(command) = orders.recv() => match command {
                    Command::Terminate => self.terminate(),
                    Command::Kill => self.kill(),
                    Command::ServeUntil { until } => self.serve_until = until,
                },
                _ = children.recv() => {}
                _ = asked_to_end.recv() => self.terminate(),
                _ = look.tick() => self.enforce_lease(stop),
            }
            if let Some(ended) = self.engine.collect() {
                return ended;
            }
        }
    }

    /// Asks the engine once: to many a second signal means to drop what they are at.
    fn terminate(&mut self) {
        if !std::mem::replace(&mut self.asked, true) {
            self.engine.terminate();
        }
        // Said each time, or the agent would believe that nobody has heard it.
        self.record.send_modify(|record| {
            if let Some(record) = record {
                record.asked = true;
            }
        });
    }

    fn kill(&mut self) {
        self.asked = true;
        self.engine.kill();
    }

    /// Its port was taken by somebody else: the same engine at once on the next one, if one is
    /// left. Guard, address and control group stay; nobody else need know.
    fn start_on_another_port(&mut self) -> io::Result<bool> {
        if self.params.spares.is_empty() {
            return Ok(false);
        }
        let spare = self.params.spares.remove(0);
        self.params.engine_port = spare.port;
        self.params.further_ports = spare.further;
        self.folder.write_params(&self.params)?;
        last_words::put_aside(self.folder);
        self.engine = Engine::start(&self.params, self.folder, self.load.clone())?;
        self.engine_port.store(self.params.engine_port, Ordering::Relaxed);
        let Some(mut record) = self.record.borrow().clone() else { return Ok(true) };
        record.engine = Some(self.engine.id);
        record.port_clashes += 1;
        self.folder.write_record(&record)?;
        self.record.send_replace(Some(record));
        Ok(true)
    }

    fn enforce_lease(&mut self, stop: &CancellationToken) {
        let Some(until) = self.serve_until else { return };
        let now = clock::boottime();
        if now >= until + LEASE_KILL_AFTER {
            self.kill();
        } else if now >= until && !self.lease_over {
            self.lease_over = true;
            stop.cancel();
            self.terminate();
        }
    }

    fn write_end(&self, ended: Ended, failure: Option<Failure>) -> io::Result<()> {
        let Some(mut record) = self.record.borrow().clone() else { return Ok(()) };
        record.ended = Some(ended);
        record.failure = failure;
        record.because = self.lease_over.then(|| "its serving lease ended".to_owned());
        // Written first: who hears it may remove the folder at once. On a full disk it is heard all
        // the same.
        let written = self.folder.write_record(&record);
        self.record.send_replace(Some(record));
        written
    }
}
