//! Names that a sheet uses must be names that it makes: a slip is found before anything runs.
//!
//! What goes to the product as a command (`do`, `deploy`, `contract`, `claim`) is left to the
//! product, whose refusal a sheet may expect.

use std::collections::BTreeSet;

use wharfage_shared::ids::{DeploymentId, NodeId, OrganizationId};

use super::parse::BadSheet;
use super::statement::{Expect, Fault, Line, Sheet, Show, Statement};
use crate::world::{ACME, gpus_of};

struct Names {
    gpus: Vec<u8>,
    deployments: BTreeSet<DeploymentId>,
    organizations: BTreeSet<OrganizationId>,
}

/// The first line that names what the sheet does not make.
pub(super) fn check(sheet: &Sheet) -> Result<(), BadSheet> {
    let mut names = Names {
        gpus: Vec::new(),
        deployments: BTreeSet::new(),
        organizations: [OrganizationId::from(ACME)].into(),
    };
    for line in &sheet.statements {
        match &line.statement {
            Statement::Fleet(groups) => {
                for group in groups {
                    names.gpus.extend((0..group.count).map(|_| gpus_of(&group.sku)));
                }
            }
            Statement::Org(organization) => {
                names.organizations.insert(organization.clone());
            }
            Statement::Deploy(deploy) => {
                names.deployments.insert(deploy.name.clone());
            }
            Statement::Contract(_)
            | Statement::Claim(_)
            | Statement::Load { .. }
            | Statement::Run(_)
            | Statement::Expect(_)
            | Statement::Notice { .. }
            | Statement::Withdraw(_)
            | Statement::Fault(_)
            | Statement::Do(_)
            | Statement::Show(_) => {}
        }
    }
    for line in &sheet.statements {
        names.line(line).map_err(|expected| BadSheet {
            file: sheet.file.clone(),
            line: line.number,
            expected,
        })?;
    }
    Ok(())
}

impl Names {
    fn line(&self, line: &Line) -> Result<(), String> {
        match &line.statement {
            Statement::Load { deployment, .. } => self.deployment(deployment),
            Statement::Expect(expect) => self.expect(expect),
            Statement::Notice { node, .. } | Statement::Withdraw(node) => {
                self.node(node).map(|_| ())
            }
            Statement::Fault(fault) => self.fault(fault),
            Statement::Show(Show::Timeline(node)) => self.node(node).map(|_| ()),
            Statement::Show(Show::Usage(organization)) => self.organization(organization),
            Statement::Show(Show::Explain(deployment)) => self.deployment(deployment),
            Statement::Fleet(_)
            | Statement::Org(_)
            | Statement::Contract(_)
            | Statement::Claim(_)
            | Statement::Deploy(_)
            | Statement::Run(_)
            | Statement::Do(_) => Ok(()),
        }
    }

    fn expect(&self, expect: &Expect) -> Result<(), String> {
        match expect {
            Expect::On { deployment, node, .. } => {
                deployment.iter().try_for_each(|deployment| self.deployment(deployment))?;
                self.node(node).map(|_| ())
            }
            Expect::Count { deployment, .. } => self.deployment(deployment),
            Expect::Usage { organization, .. } => self.organization(organization),
            Expect::Axis { node, .. } => self.node(node).map(|_| ()),
            Expect::RequestsCut(_) | Expect::Drill(_) | Expect::Refused => Ok(()),
        }
    }

    fn fault(&self, fault: &Fault) -> Result<(), String> {
        match fault {
            Fault::CrashAgent(node)
            | Fault::Cut(node, _)
            | Fault::Lose(node)
            | Fault::Clock(node, _) => self.node(node).map(|_| ()),
            Fault::HangDriver(node, gpu) | Fault::Xid(node, _, gpu) => {
                let gpus = self.node(node)?;
                if *gpu < u32::from(gpus) {
                    Ok(())
                } else {
                    Err(format!("gpu={gpu} where a GPU of {node}, 0 to {}, was expected", gpus - 1))
                }
            }
            Fault::SchedulerCrash => Ok(()),
        }
    }

    fn node(&self, node: &NodeId) -> Result<u8, String> {
        let number = node.as_str().strip_prefix("node-").and_then(|n| n.parse::<usize>().ok());
        let canonical = number.filter(|number| node.as_str() == format!("node-{number}"));
        let gpus = canonical.and_then(|number| self.gpus.get(number.checked_sub(1)?));
        let most = self.gpus.len();
        gpus.copied()
            .ok_or_else(|| format!("`{node}` where a node from node-1 to node-{most} was expected"))
    }

    fn deployment(&self, deployment: &DeploymentId) -> Result<(), String> {
        if self.deployments.contains(deployment) {
            return Ok(());
        }
        let made: Vec<_> = self.deployments.iter().map(DeploymentId::text).collect();
        let made = if made.is_empty() { "it deploys none".to_owned() } else { made.join(", ") };
        Err(format!("`{deployment}` where a deployment of this sheet was expected ({made})"))
    }

    fn organization(&self, organization: &OrganizationId) -> Result<(), String> {
        if self.organizations.contains(organization) {
            return Ok(());
        }
        let made: Vec<&str> = self.organizations.iter().map(OrganizationId::as_str).collect();
        let made = made.join(", ");
        Err(format!("`{organization}` where an organization was expected ({made})"))
    }
}
