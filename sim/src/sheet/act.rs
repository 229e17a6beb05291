//! Statements that do something: commands to the product, and what befalls the world.

use std::collections::{BTreeMap, BTreeSet};

use wharfage_scheduler_core::words::claim;
use wharfage_scheduler_core::words::command::{Action, access, claims, deployments, money, nodes};
use wharfage_scheduler_core::words::contract::{Contract as CoreContract, ContractTerms};
use wharfage_scheduler_core::words::deployment::{
    Bounds, Extension, GpuCount, Model, Priority, Runtime, Scaling, ScalingPatch, Spec,
};
use wharfage_scheduler_core::words::principal::Role;
use wharfage_scheduler_core::{Caller, Refusal};
use wharfage_shared::capacity::Sku;
use wharfage_shared::ids::{ClaimId, ContractId, HookId, NodeId, OrganizationId};
use wharfage_shared::replica::HookKind;
use wharfage_shared::time::Millis;

use super::drill;
use super::statement::{Claim, Contract, Deploy, Fault, Sheet, Statement, Verb};
use crate::network::{Place, Way};
use crate::world::{ENGINE, World, front_door_of};

/// What a sheet knows besides the world.
pub(super) struct Context {
    pub first_sku: Sku,
    pub hooks: BTreeMap<(String, HookKind), HookId>,
}

/// The hooks that a sheet's deployments need, with how long they take.
pub(super) fn hooks_of(
    sheet: &Sheet,
) -> (BTreeMap<(String, HookKind), HookId>, BTreeMap<HookId, Millis>) {
    let (mut named, mut lengths) = (BTreeMap::new(), BTreeMap::new());
    let deploys = sheet.statements.iter().filter_map(|line| match &line.statement {
        Statement::Deploy(deploy) => Some(deploy),
        _ => None,
    });
    for (number, deploy) in (1..).zip(deploys) {
        let kinds = [
            (HookKind::Checkpoint, "checkpoint", deploy.checkpoint),
            (HookKind::Drain, "drain", deploy.drain),
        ];
        for (kind, word, takes) in kinds {
            if takes > Millis(0) {
                let id = HookId::new(format!("{word}-{number}"));
                lengths.insert(id.clone(), takes);
                named.insert((deploy.name.to_string(), kind), id);
            }
        }
    }
    (named, lengths)
}

/// A precondition of this simulator, in the product's words for a refusal.
fn refused(subject: &str, description: String) -> Refusal {
    Refusal::Precondition { subject: subject.to_owned(), description }
}

fn admin_of(organization: &OrganizationId) -> Caller {
    Caller { organization: organization.clone(), token: None, roles: [Role::Admin].into() }
}

/// Carries a statement out; `Err` is what a sheet calls refused.
pub(super) fn act(
    world: &mut World,
    context: &Context,
    number: usize,
    statement: &Statement,
) -> Result<(), Refusal> {
    match statement {
        Statement::Org(organization) => {
            let id = organization.clone();
            let currency = "USD".to_owned();
            let action = access::Action::CreateOrganization { id, currency };
            match world.submit(Caller::provider(), Action::Access(action)) {
                // Naming the organization that is there already says nothing new.
                Err(Refusal::NameTaken { .. }) => return Ok(()),
                made => made?,
            };
            let mut zones: Vec<_> = world.hosts.iter().map(|host| host.zone.clone()).collect();
            zones.sort();
            zones.dedup();
            world.front_door(organization, &zones);
            Ok(())
        }
        Statement::Contract(contract) => sign(world, number, contract),
        Statement::Claim(claim) => set_aside(world, claim),
        Statement::Deploy(made) => deploy(world, context, made),
        Statement::Load { deployment, in_flight } => {
            world.load(deployment, *in_flight);
            Ok(())
        }
        Statement::Notice { node, within, leaves } => {
            on_host(world, node, |host, stage| host.notice(stage, *within, *leaves))
        }
        Statement::Withdraw(node) => {
            let mut was_noticed = false;
            on_host(world, node, |host, stage| was_noticed = host.withdraw(stage))?;
            if was_noticed {
                Ok(())
            } else {
                Err(refused(node.as_str(), format!("{node} is under no notice")))
            }
        }
        Statement::Fault(fault) => befall(world, fault),
        Statement::Do(verb) => do_verb(world, verb),
        Statement::Fleet(_) | Statement::Run(_) | Statement::Expect(_) | Statement::Show(_) => {
            Ok(())
        }
    }
}

fn on_host(
    world: &mut World,
    node: &NodeId,
    touch: impl FnOnce(&mut crate::host::Host, &mut crate::stage::Stage),
) -> Result<(), Refusal> {
    let Some((host, stage)) = world.host_of(node) else {
        return Err(refused(node.as_str(), format!("there is no node `{node}`")));
    };
    touch(host, stage);
    Ok(())
}

fn sign(world: &mut World, number: usize, contract: &Contract) -> Result<(), Refusal> {
    let zero = crate::stage::BEGINNING + world.zero;
    let terms = if contract.is_flex {
        ContractTerms::Flex { holding_rate: "12.31".to_owned(), usage_rate: "24.62".to_owned() }
    } else {
        ContractTerms::Reserved { rate: "30.00".to_owned() }
    };
    let signed = CoreContract {
        id: ContractId::new(format!("contract-{number}")),
        organization: contract.organization.clone(),
        region: contract.region.clone(),
        sku: contract.sku.clone(),
        instances: contract.instances,
        start: zero + contract.from,
        end: zero + contract.to,
        terms,
    };
    world.submit(Caller::provider(), Action::Money(money::Action::Sign(signed))).map(|_| ())
}

fn set_aside(world: &mut World, claim: &Claim) -> Result<(), Refusal> {
    let spec = claim::Spec {
        name: claim.name.clone(),
        capacity_type: claim.capacity_type,
        says_managed: false,
        sku: claim.sku.clone(),
        zone: claim.zone.clone(),
        instances: claim.count,
    };
    let id = ClaimId::from(claim.name.as_str());
    let organization = claim.organization.clone();
    let action = claims::Action::Create { id, organization, spec };
    world.submit(Caller::provider(), Action::Claim(action)).map(|_| ())
}

fn deploy(world: &mut World, context: &Context, deploy: &Deploy) -> Result<(), Refusal> {
    let hook = |kind| {
        let id = context.hooks.get(&(deploy.name.to_string(), kind));
        id.map(|id| (kind, id.clone()))
    };
    let hooks = [hook(HookKind::Checkpoint), hook(HookKind::Drain)].into_iter().flatten().collect();
    let sku = deploy.sku.clone().unwrap_or_else(|| context.first_sku.clone());
    let spec = spec_of(deploy, sku, hooks)?;
    world.stage.loads.insert(deploy.name.clone(), deploy.load);
    if deploy.single_copy {
        world.stage.single_copies.insert(deploy.name.clone(), spec.scaling.bounds.max());
    }
    let action = deployments::Action::Create {
        id: deploy.name.clone(),
        organization: deploy.organization.clone(),
        spec: spec.into(),
    };
    world.submit(admin_of(&deploy.organization), Action::Deployment(action)).map(|_| ())
}

/// A deployment as a sheet has it, in a world that no sheet made; its hooks by their kinds.
pub(crate) fn furnish(world: &mut World, of: &Deploy, hooks: &[(HookKind, HookId)]) {
    let Some(first_sku) = world.hosts.first().map(|host| host.sku.clone()) else { return };
    let named = hooks.iter().map(|(kind, id)| ((of.name.to_string(), *kind), id.clone()));
    let context = Context { first_sku, hooks: named.collect() };
    if let Err(refusal) = deploy(world, &context, of) {
        world.stage.broken("world", format!("it cannot be furnished: {refusal}"));
    }
}

fn spec_of(deploy: &Deploy, sku: Sku, hooks: BTreeMap<HookKind, HookId>) -> Result<Spec, Refusal> {
    let max = deploy.max.unwrap_or(deploy.min.max(1));
    let invalid = |field: &str| Refusal::invalid(field, "out of range");
    let bounds = Bounds::new(deploy.min, max).ok_or_else(|| invalid("max"))?;
    let mut scaling = Scaling::coreweave(bounds, Some(deploy.concurrency));
    if deploy.min == 0 {
        // Only Baseten's dialect may scale to zero.
        scaling = Scaling { bounds, concurrency: deploy.concurrency, ..Scaling::baseten() };
    }
    Ok(Spec {
        name: deploy.name.to_string(),
        model: Model {
            name: format!("model-{}", deploy.name),
            bucket: "models".to_owned(),
            path: deploy.name.to_string(),
        },
        runtime: Runtime {
            engine: ENGINE.to_owned(),
            version: String::new(),
            config: BTreeMap::new(),
            env: BTreeMap::new(),
        },
        sku,
        gpus: GpuCount::new(deploy.gpus).ok_or_else(|| invalid("gpus"))?,
        gateways: BTreeSet::from([front_door_of(&deploy.organization)]),
        zone: deploy.zone.clone(),
        disabled: false,
        weight: 100,
        classes: deploy.classes.clone(),
        priority: Priority::new(deploy.priority).ok_or_else(|| invalid("priority"))?,
        scaling,
        extension: Extension { single_copy: deploy.single_copy, hooks, ..Extension::default() },
    })
}

fn befall(world: &mut World, fault: &Fault) -> Result<(), Refusal> {
    match fault {
        Fault::CrashAgent(node) => on_host(world, node, |host, stage| {
            let pause = stage.habits.agent_restart;
            host.agent_dies(stage, pause);
        }),
        Fault::Cut(node, length) => on_host(world, node, |host, stage| {
            let until = stage.now + *length;
            let text = format!("cut off from the scheduler for {length}");
            stage.trace.line(stage.now, Some(host.node.clone()), text);
            stage.network.cut(Place::Host(host.index), Way::Up, until);
            stage.network.cut(Place::Host(host.index), Way::Down, until);
        }),
        Fault::HangDriver(node, gpu) => on_host(world, node, |host, stage| {
            if let Some(gpu) = host.gpus.get(*gpu as usize).cloned() {
                host.driver_hangs(stage, &gpu);
            }
        }),
        Fault::Xid(node, xid, gpu) => on_host(world, node, |host, stage| {
            if let Some(gpu) = host.gpus.get(*gpu as usize).cloned() {
                host.xid(stage, *xid, &gpu);
            }
        }),
        Fault::Lose(node) => {
            on_host(world, node, |host, stage| host.power_off(stage, "the host is lost"))
        }
        Fault::Clock(node, step) => on_host(world, node, |host, _| host.clock_steps(*step)),
        Fault::SchedulerCrash => {
            if world.scheduler.is_up() {
                world.scheduler.dies(&mut world.stage);
            }
            Ok(())
        }
    }
}

fn do_verb(world: &mut World, verb: &Verb) -> Result<(), Refusal> {
    let reason = "by the sheet".to_owned();
    let action = match verb {
        Verb::Cordon(node) => Action::Node(nodes::Action::Cordon { node: node.clone(), reason }),
        Verb::Uncordon(node) => {
            Action::Node(nodes::Action::Uncordon { node: node.clone(), reason })
        }
        Verb::Drain(node) => Action::Node(nodes::Action::Drain { node: node.clone(), reason }),
        Verb::Reclaim(node) => {
            let (node, leaves) = (node.clone(), wharfage_shared::notice::Leaves::Node);
            let (drain_after, gone_after) = (None, None);
            Action::Node(nodes::Action::Reclaim { node, reason, leaves, drain_after, gone_after })
        }
        Verb::Scale { deployment, min, max } => {
            let patch = ScalingPatch { min: *min, max: *max, ..ScalingPatch::default() };
            Action::Deployment(deployments::Action::Settings { id: deployment.clone(), patch })
        }
        Verb::Drill(drill) => return drill::begin(world, drill),
        Verb::AbortDrill => return drill::abort(world),
        Verb::Delete(deployment) => {
            Action::Deployment(deployments::Action::Delete { id: deployment.clone() })
        }
    };
    world.submit(Caller::provider(), action).map(|_| ())
}
