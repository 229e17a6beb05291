//! One replica's command line: every value is one argument, nothing is split, no shell reads it.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use wharfage_shared::order::RunOrder;

use super::Engine;
use super::placeholders::fill;

/// What an engine's command line needs to know of one replica.
#[derive(Clone, Debug)]
pub struct Seat<'a> {
    /// The loopback port that it shall listen on.
    pub port: u16,
    /// Further ports by the names of the definition.
    pub further: &'a BTreeMap<String, u16>,
    /// The model's folder on this host.
    pub model_dir: &'a Path,
}

/// Loopback ports for one engine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ports {
    /// The one on which it serves.
    pub port: u16,
    /// Further ones by the names of the definition.
    #[serde(default)]
    pub further: BTreeMap<String, u16>,
}

impl Engine {
    /// The program and its arguments for one replica.
    pub fn command_line(&self, order: &RunOrder, seat: &Seat<'_>) -> Vec<String> {
        let values = values(order, seat);
        let of_member = self
            .gang
            .iter()
            .zip(&order.gang)
            .flat_map(|(over, gang)| if gang.leads() { &over.leader } else { &over.follower });
        let parts = self.command.iter().chain(of_member);
        let mut command: Vec<String> = parts.map(|part| fill(part, &values)).collect();
        for (name, value) in &order.engine_flags {
            let values =
                [("{name}".to_owned(), name.clone()), ("{value}".to_owned(), value.clone())];
            let typed = self.parameters.get(name);
            let written = typed.map_or(&*self.flag, |typed| typed.arguments(value, &self.flag));
            command.extend(written.iter().map(|part| fill(part, &values)));
        }
        command
    }

    /// The environment of this engine's process for one replica.
    pub fn environment_for(&self, order: &RunOrder, seat: &Seat<'_>) -> BTreeMap<String, String> {
        let mut environment = self.environment.clone();
        if let (Some(over), Some(_)) = (&self.gang, &order.gang) {
            let values = values(order, seat);
            let filled = over.environment.iter();
            environment.extend(filled.map(|(name, text)| (name.clone(), fill(text, &values))));
        }
        environment
    }
}

/// What placeholders stand for.
fn values(order: &RunOrder, seat: &Seat<'_>) -> Vec<(String, String)> {
    let gpus: Vec<_> = order.gpus.iter().map(|gpu| gpu.text()).collect();
    let mut values = vec![
        ("{port}".to_owned(), seat.port.to_string()),
        ("{model_dir}".to_owned(), seat.model_dir.display().to_string()),
        ("{model_name}".to_owned(), order.model_name.clone()),
        ("{gpus}".to_owned(), gpus.join(",")),
        ("{gpu_count}".to_owned(), order.gpus.len().to_string()),
        ("{version}".to_owned(), order.engine_version.clone()),
    ];
    for (name, port) in seat.further {
        values.push((format!("{{port.{name}}}"), port.to_string()));
    }
    if let Some(gang) = &order.gang {
        values.extend([
            ("{rank}".to_owned(), gang.rank.to_string()),
            ("{world_size}".to_owned(), gang.world_size.to_string()),
            ("{total_gpus}".to_owned(), gang.gpus.to_string()),
            ("{leader_host}".to_owned(), gang.leader_host.clone()),
            ("{leader_port}".to_owned(), gang.leader_port.to_string()),
        ]);
    }
    values
}
