//! A scheduler's listener for machines on a free port, and machines that dial it.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::support::{Folder, driver};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use wharfage_link::enroll::enroll;
use wharfage_link::{
    Authority, ClientError, Decoder, EnrollError, IdentityDir, Limits, MachineClient, ServerTls,
    serve,
};
use wharfage_scheduler::driver::{Driver, Handle};
use wharfage_scheduler::machines::{State, router};
use wharfage_scheduler::secrets::sha256_hex;
use wharfage_scheduler::telemetry::Telemetry;
use wharfage_scheduler_core::Caller;
use wharfage_scheduler_core::words::command::access::{self, Admits};
use wharfage_scheduler_core::words::command::{Action, Command, nodes};
use wharfage_scheduler_core::words::node::Pool;
use wharfage_shared::capacity::{ComputeClass, Sku, Tenancy, Zone};
use wharfage_shared::enroll::{EnrollRequest, JoinString};
use wharfage_shared::heartbeat::{Heartbeat, HeartbeatAnswer};
use wharfage_shared::ids::{NodeId, PoolId};
use wharfage_shared::telemetry::{GpuIdentity, GpuReading, Inventory};
use wharfage_shared::time::{Boottime, Millis, Timestamp};
use wharfage_shared::version::{DesiredVersion, Epoch, PROTOCOL_VERSION};

/// Longer than any answer takes; a test that waits this long has failed.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A scheduler without its public listener.
pub struct Scheduler {
    /// Its folder.
    pub folder: Folder,
    /// Its driver.
    pub driver: Driver,
    /// Its authority.
    pub authority: Arc<Authority>,
    /// What machines said last.
    pub telemetry: Telemetry,
    /// `host:port` for machines.
    pub address: String,
    shutdown: CancellationToken,
    serving: tokio::task::JoinHandle<()>,
}

impl Scheduler {
    /// One with a pool `pool-a` and nothing else.
    pub async fn start(name: &str) -> Self {
        wharfage_link::tls::install();
        let folder = Folder::new(name);
        let driver = driver(&folder.0).await.expect("starts");
        let authority = Authority::open_or_create(&folder.0.join("authority")).expect("made");
        let authority = Arc::new(authority);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound").to_string();
        let (telemetry, shutdown) = (Telemetry::default(), CancellationToken::new());
        let handle = driver.handle.clone();
        let state = State::new(handle, telemetry.clone(), Arc::clone(&authority), shutdown.clone());
        let tls = ServerTls::machines(&authority, &[]).expect("a certificate");
        let serving = tokio::spawn(serve(
            listener,
            router(state),
            Some(tls),
            Limits::machines(),
            shutdown.clone(),
        ));
        let scheduler = Self { folder, driver, authority, telemetry, address, shutdown, serving };
        let pool = Pool {
            id: PoolId::from("pool-a"),
            zone: Zone::new("US-EAST-04A"),
            sku: Sku::new("gd-8xh100ib-i128"),
            compute_class: ComputeClass::Standard,
            tenancy: Tenancy::Dedicated,
            owner: None,
        };
        scheduler.provider(Action::Node(nodes::Action::CreatePool(pool))).await;
        scheduler
    }

    /// Its handle.
    pub fn handle(&self) -> &Handle {
        &self.driver.handle
    }

    /// Carries out a command of the provider.
    pub async fn provider(&self, action: Action) {
        let command = Command { caller: Caller::provider(), action };
        self.handle().submit(command).await.expect("carried out");
    }

    /// Makes a join; its secret is its id.
    pub async fn join(&self, id: &str, admits: Admits, uses: u32, valid: Millis) -> JoinString {
        let expires = self.handle().now() + valid;
        let action = access::Action::CreateJoin {
            id: id.into(),
            admits,
            uses,
            expires,
            sha256: sha256_hex(id),
        };
        self.provider(Action::Access(action)).await;
        self.join_string(id)
    }

    /// A join string with this secret.
    pub fn join_string(&self, secret: &str) -> JoinString {
        JoinString {
            address: self.address.clone(),
            authority: self.authority.spki_sha256(),
            secret: secret.to_owned(),
        }
    }

    /// An enrolled node of `pool-a`.
    pub async fn node(&self, name: &str) -> Machine {
        let admits = Admits::Nodes { pool: "pool-a".into() };
        let join = self.join(&format!("join-{name}"), admits, 1, Millis::from_seconds(600)).await;
        self.enrol(name, &join, "/agent/v1/enroll", None).await.expect("admitted")
    }

    /// A machine that presents `join` under `name`.
    pub async fn enrol(
        &self,
        name: &str,
        join: &JoinString,
        path: &str,
        pool: Option<&str>,
    ) -> Result<Machine, EnrollError> {
        let dir = self.folder.0.join("machines").join(format!("{name}-{}", join.secret));
        let identity = IdentityDir::new(dir);
        let request = EnrollRequest {
            protocol: PROTOCOL_VERSION,
            name: NodeId::from(name),
            pool: pool.map(PoolId::from),
            secret: join.secret.clone(),
            csr_pem: identity.create_key_and_csr(name).expect("a request"),
        };
        let enrolled = enroll(join, path, &request, &Decoder::default()).await?;
        identity.store(&enrolled).expect("kept");
        Ok(Machine::new(self, name, identity))
    }

    /// Ends it; held requests end with it.
    pub async fn stop(self) {
        self.shutdown.cancel();
        self.serving.await.expect("no panic");
        self.driver.stop().await;
    }
}

/// One machine.
pub struct Machine {
    /// Its name.
    pub name: NodeId,
    /// Its folder.
    pub identity: IdentityDir,
    /// Its connection.
    pub client: MachineClient,
}

impl Machine {
    /// With the identity in `identity`.
    pub fn new(scheduler: &Scheduler, name: &str, identity: IdentityDir) -> Self {
        let client = MachineClient::new(identity.clone(), scheduler.address.clone());
        Self { name: NodeId::from(name), identity, client: client.expect("a usable identity") }
    }

    /// Sends a heartbeat.
    pub async fn beat(&self, heartbeat: &Heartbeat) -> Result<HeartbeatAnswer, ClientError> {
        self.client.post_json("/agent/v1/heartbeat", heartbeat, PATIENCE).await
    }

    /// Asks for an epoch and hands in an inventory of 8 GPUs; the steady heartbeat that follows.
    pub async fn introduce(&self) -> Heartbeat {
        let mut heartbeat = heartbeat(&self.name);
        let answer = self.beat(&heartbeat).await.expect("an epoch");
        heartbeat.epoch = Some(answer.epoch);
        heartbeat.inventory = Some(inventory(&self.name));
        heartbeat.readings = readings(&self.name);
        let mut answer = self.next(&mut heartbeat).await;
        heartbeat.inventory = None;
        // Until what it has is what the scheduler wants.
        while let Some(desired) = answer.desired {
            heartbeat.persisted = desired.version;
            heartbeat.applied = desired.version;
            answer = self.next(&mut heartbeat).await;
        }
        heartbeat
    }

    /// Sends the heartbeat with the next number.
    pub async fn next(&self, heartbeat: &mut Heartbeat) -> HeartbeatAnswer {
        heartbeat.number += 1;
        heartbeat.sent_at = boottime();
        heartbeat.wall = wall();
        self.beat(heartbeat).await.expect("answered")
    }
}

/// The machines' boot-time clock: it runs as fast as the scheduler's.
pub fn boottime() -> Boottime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    Boottime(since.as_millis() as u64)
}

/// The machines' wall clock is right.
pub fn wall() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    Timestamp(i64::try_from(since.as_millis()).expect("small"))
}

/// A first heartbeat, answered at once.
pub fn heartbeat(node: &NodeId) -> Heartbeat {
    Heartbeat {
        protocol: PROTOCOL_VERSION,
        node: node.clone(),
        boot: "boot-1".into(),
        nonce: format!("nonce-{node}"),
        epoch: None::<Epoch>,
        number: 1,
        persisted: DesiredVersion::default(),
        applied: DesiredVersion::default(),
        sent_at: boottime(),
        wall: wall(),
        inventory_hash: "inventory-1".to_owned(),
        inventory: None,
        health_hash: String::new(),
        health: None,
        readings: Vec::new(),
        replicas: Vec::new(),
        gone: Vec::new(),
        open_segment: None,
        last_segment: 0,
        notices: Vec::new(),
        hearing: Vec::new(),
        evacuated: None,
        answer_at_once: true,
    }
}

fn gpu(node: &NodeId, number: usize) -> String {
    format!("GPU-{node}-{number}")
}

/// Eight H100.
pub fn inventory(node: &NodeId) -> Inventory {
    let identity = |number| {
        GpuIdentity::whole(gpu(node, number).as_str().into(), "NVIDIA H100 80GB HBM3", 81_559)
    };
    Inventory { gpus: (0..8).map(identity).collect(), ..Inventory::default() }
}

/// Their readings.
pub fn readings(node: &NodeId) -> Vec<GpuReading> {
    let reading = |number| GpuReading {
        uuid: gpu(node, number).as_str().into(),
        memory_used_mib: Some(100 + number as u64),
        memory_reserved_mib: Some(300),
        utilization: Some(number as u8),
        temperature_c: Some(40),
        power_mw: Some(70_000),
        age_ms: 5,
        trouble: None,
        unread: None,
    };
    (0..8).map(reading).collect()
}
