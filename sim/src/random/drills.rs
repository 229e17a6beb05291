//! Drills beside everything else that befalls a random world.
//!
//! They are begun in one world of four, by a luck of their own: the other seeds live as before.

use wharfage_scheduler_core::Caller;
use wharfage_scheduler_core::words::command::{Action, drills};
use wharfage_scheduler_core::words::drill::{AbortRules, Budget, Drill, Profile, Scope, Targets};
use wharfage_shared::ids::{DeploymentId, DrillId, NodeId, PoolId};
use wharfage_shared::time::Millis;

use crate::rng::Rng;
use crate::world::World;

/// How often in a thousand acts something is done about drills.
const OFTEN: u32 = 80;

/// How often in a thousand of these times a drill is given up.
const GIVEN_UP: u32 = 200;

/// Who begins them and gives them up.
pub(super) struct Drills {
    rng: Rng,
    begun: u32,
}

impl Drills {
    /// For the world of a seed, if it is one with drills.
    pub fn of(seed: u64) -> Option<Self> {
        matches!(seed % 8, 1 | 4).then(|| Self { rng: Rng::new(seed ^ 0x000d_0911), begun: 0 })
    }

    /// Perhaps something is done. A refusal is an answer like any other.
    pub fn act(&mut self, world: &mut World) {
        if !self.rng.chance(OFTEN) {
            return;
        }
        if self.rng.chance(GIVEN_UP) {
            let active: Vec<DrillId> =
                world.fleet().active_drills().map(|row| row.drill.id.clone()).collect();
            if let Some(id) = self.rng.pick(&active).cloned() {
                give_up(world, id);
            }
            return;
        }
        let Some(scope) = self.scope(world) else { return };
        self.begun += 1;
        let drill = Drill {
            id: DrillId::from(format!("drill-{}", self.begun).as_str()),
            name: "mischief".to_owned(),
            scope,
            profile: self.profile(),
            budget: Budget {
                at_once: self.rng.between(1, 3) as u32,
                within: Millis(self.rng.between(60_000, 3_600_000)),
            },
            abort: AbortRules {
                below_min: self.rng.chance(300),
                fewer_than: self.rng.chance(200).then_some(1),
                more_cut_than: self.rng.chance(200).then_some(0),
            },
            targets: Targets::default(),
            scheduled: None,
        };
        let action = Action::Drill(drills::Action::Create(Box::new(drill)));
        let _ = world.submit(Caller::provider(), action);
    }

    /// Nothing is practised any more.
    pub fn end(&mut self, world: &mut World) {
        let active: Vec<DrillId> =
            world.fleet().active_drills().map(|row| row.drill.id.clone()).collect();
        for id in active {
            give_up(world, id);
        }
    }

    fn scope(&mut self, world: &World) -> Option<Scope> {
        let fleet = world.fleet();
        match self.rng.between(0, 3) {
            0 => {
                let all: Vec<DeploymentId> =
                    fleet.deployments().map(|row| row.id.clone()).collect();
                let deployment = self.rng.pick(&all).cloned()?;
                let percent = self.rng.between(1, 100) as u8;
                Some(Scope::Deployment { deployment, percent })
            }
            1 => {
                let all: Vec<PoolId> = fleet.nodes().map(|row| row.pool.clone()).collect();
                self.rng.pick(&all).cloned().map(Scope::Pool)
            }
            _ => {
                let all: Vec<NodeId> = fleet.nodes().map(|row| row.id.clone()).collect();
                self.rng.pick(&all).cloned().map(Scope::Node)
            }
        }
    }

    fn profile(&mut self) -> Profile {
        let known = [
            Profile::Aws120,
            Profile::Gcp30,
            Profile::Azure30,
            Profile::Coreweave420,
            Profile::NoNotice,
        ];
        let custom = Profile::Custom(Millis(self.rng.between(0, 300_000)));
        if self.rng.chance(300) {
            return custom;
        }
        self.rng.pick(&known).copied().unwrap_or(custom)
    }
}

fn give_up(world: &mut World, id: DrillId) {
    let action = drills::Action::Abort { id, reason: "mischief".to_owned() };
    let _ = world.submit(Caller::provider(), Action::Drill(action));
}
