//! Facts by hand, for fleets that no short story would lead to.

use wharfage_scheduler_core::Event;
use wharfage_scheduler_core::words::because::placement::{Placement, Score};
use wharfage_scheduler_core::words::deployment::Spec;
use wharfage_scheduler_core::words::event::deployment::Event as Deployments;
use wharfage_scheduler_core::words::event::node::Event as Nodes;
use wharfage_scheduler_core::words::event::replica::Event as Replicas;
use wharfage_scheduler_core::words::replica::{Seat, Seen};
use wharfage_shared::capacity::{CapacityClass, ComputeClass};
use wharfage_shared::gateway::RoutesVersion;
use wharfage_shared::ids::{GpuUuid, NodeId, OrganizationId, ReplicaId};
use wharfage_shared::order::{HeldFor, StopCause};
use wharfage_shared::replica::ReportedPhase;
use wharfage_shared::time::{Millis, Timestamp};
use wharfage_shared::version::Term;

use crate::world::id;

/// A replica that stands somewhere.
pub struct Standing<'a> {
    pub replica: ReplicaId,
    pub of: &'a str,
    pub node: &'a str,
    pub from: usize,
    pub gpus: usize,
    pub serves: bool,
    pub since: Timestamp,
}

/// A deployment under its name.
pub fn deployed(organization: &str, spec: Spec, at: Timestamp) -> Event {
    Event::Deployment(Deployments::Created {
        deployment: id(&spec.name),
        organization: OrganizationId::from(organization),
        spec: spec.into(),
        at,
    })
}

/// A replica of acme stands there.
pub fn stands(standing: &Standing<'_>) -> Vec<Event> {
    let Standing { replica, of, node, from, gpus, serves, since } = *standing;
    let gpu = |at| GpuUuid::new(format!("GPU-{node}-{at}"));
    let node = NodeId::from(node);
    let score = Score {
        class: 0,
        lends: false,
        breaks_whole_node: false,
        crowding: 0,
        gpus_left: 0,
        opens_node: false,
        seconds_to_ready: 0,
        siblings: 0,
        node: node.clone(),
    };
    let class = CapacityClass::OnDemand;
    let seat = Seat::alone(node.clone(), (from..from + gpus).map(gpu).collect());
    let compute_class = ComputeClass::Standard;
    let held_for =
        Some(HeldFor { organization: OrganizationId::from("acme"), claim: None, compute_class });
    let mut events = vec![
        Event::Node(Nodes::Held { node, held_for, at: since }),
        Event::Replica(Replicas::Created { replica, deployment: id(of), revision: 1, at: since }),
        Event::Replica(Replicas::Placed {
            replica,
            seat,
            engine_version: "0.11.0".into(),
            start_deadline: Millis::from_seconds(600),
            because: Placement { class, score, sentence: "a test".into() }.into(),
            at: since,
        }),
    ];
    if serves {
        let seen = Seen { phase: ReportedPhase::Ready, since, address: None, because: None };
        events.push(Event::Replica(Replicas::Seen { replica, seen }));
    }
    events
}

/// It leaves for a reason of its own.
pub fn leaves(replica: ReplicaId, at: Timestamp) -> Event {
    Event::Replica(Replicas::Leaving {
        replica,
        because: StopCause::ScaledDown,
        deadline: at,
        routes: RoutesVersion { term: Term(1), number: 1 },
        at,
    })
}
