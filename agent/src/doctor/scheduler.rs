//! Whether the node has joined, and whether the scheduler that it knows answers.

use std::time::{Duration, SystemTime};

use serde::de::IgnoredAny;
use wharfage_link::client::{ClientError, MachineClient};
use wharfage_link::enroll;
use wharfage_link::identity::IdentityDir;
use wharfage_link::{RENEWABLE_AFTER_END, tls};
use wharfage_shared::causes::with_causes;

use super::Finding;
use crate::config::Config;
use crate::uplink;

/// A scheduler that does not answer within this long is not reached.
const ANSWER: Duration = Duration::from_secs(10);

const JOIN_AGAIN: &str = "ask an operator for a new join string and put it into join or join_file";

const OPEN_THE_WAY: &str = "start it, or open the way to its listener for machines (7071)";

pub(super) async fn look(config: &Config) -> Vec<Finding> {
    tls::install();
    let identity = IdentityDir::new(config.state_dir.join("identity"));
    let mut findings = Vec::new();
    let is_enrolled = identity.is_enrolled();
    if is_enrolled {
        findings.extend(own(config, &identity));
    } else if let Err(error) = std::fs::read_dir(identity.path())
        && error.kind() != std::io::ErrorKind::NotFound
    {
        let at = identity.path().display();
        let detail = format!("whether the node has joined is not known: `{at}`: {error}");
        findings.push(Finding::broken("scheduler", detail, "look as the agent's own user"));
    }
    let address = match uplink::address(config, &identity) {
        Ok(address) => address,
        Err(error) => {
            findings.push(Finding::broken("scheduler", error.to_string(), JOIN_AGAIN));
            return findings;
        }
    };
    let usable = is_enrolled && findings.is_empty();
    findings.push(match answers(config, identity, &address, usable).await {
        Ok(word) => Finding::works("scheduler", format!("{address} answers, {word}")),
        Err(why) => {
            let word = if is_enrolled { "the node has joined" } else { "it has not joined yet" };
            let detail = format!("{address} is not reached, {word}: {why}");
            Finding::broken("scheduler", detail, OPEN_THE_WAY)
        }
    });
    findings
}

/// What is wrong with what the node got when it joined.
fn own(config: &Config, identity: &IdentityDir) -> Option<Finding> {
    let known = match identity.load() {
        Ok(known) => known,
        Err(error) => {
            let detail =
                format!("what the node got when it joined cannot be used: {}", with_causes(&error));
            let help = format!("take `{}` away, {JOIN_AGAIN}", identity.path().display());
            return Some(Finding::broken("scheduler", detail, help));
        }
    };
    if known.name.as_str() != config.node {
        let detail = format!(
            "the state folder belongs to node `{}`, the configuration says `{}`",
            known.name.as_str(),
            config.node
        );
        let help = "give the node its old name or another state_dir";
        return Some(Finding::broken("scheduler", detail, help));
    }
    let now = SystemTime::now();
    if now > known.not_after + RENEWABLE_AFTER_END {
        let detail = "the node's certificate ended more than a week ago: it must join again";
        return Some(Finding::broken("scheduler", detail, JOIN_AGAIN));
    }
    known.is_expired(now).then(|| {
        let detail = "the node's certificate has ended and is renewed when the agent next talks";
        Finding::limited("scheduler", detail, "start the agent within a week of its end")
    })
}

/// Whether who answers there is the scheduler that is meant, proven by its authority; as a node that
/// has joined, also whether it takes this node's certificate.
async fn answers(
    config: &Config,
    identity: IdentityDir,
    address: &str,
    usable: bool,
) -> Result<&'static str, String> {
    if usable {
        let client = MachineClient::new(identity, address).map_err(|error| with_causes(&error))?;
        // Asked with the wrong method: any word of it will do.
        return match client.get_json::<IgnoredAny>("/agent/v1/heartbeat", ANSWER).await {
            Ok(_) | Err(ClientError::Refused { .. } | ClientError::BadAnswer { .. }) => {
                Ok("the node has joined")
            }
            Err(error) => Err(with_causes(&error)),
        };
    }
    match config.join_string() {
        Ok(Some(join)) => {
            enroll::is_answered(&join).await.map_err(|error| with_causes(&error))?;
            Ok("the node has not joined yet")
        }
        Ok(None) => Err("without a join string nobody there can be recognised".to_owned()),
        Err(why) => Err(why),
    }
}
