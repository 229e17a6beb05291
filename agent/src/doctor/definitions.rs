//! What the node's owner has written: buckets, hooks and engines, each refused file by name.

use wharfage_shared::ids::HookId;

use super::Finding;
use crate::config::Config;
use crate::engines::Engines;
use crate::hooks::store::moving;
use crate::hooks::{Definition, definition, user};
use crate::users::User;

pub(super) fn buckets(config: &Config) -> Vec<Finding> {
    if config.buckets.is_empty() {
        let detail = "no bucket is named: no model can be fetched";
        return vec![Finding::broken("buckets", detail, "add a [[bucket]] to agent.toml")];
    }
    let one = |bucket: &crate::config::Bucket| {
        let (name, at) = (&bucket.name, bucket.directory.display());
        match std::fs::read_dir(&bucket.directory) {
            Ok(_) => Finding::works("buckets", format!("`{name}` is `{at}`")),
            Err(_) if bucket.generate_missing => {
                Finding::works("buckets", format!("`{name}` is made up in `{at}` (development)"))
            }
            Err(error) => Finding::broken(
                "buckets",
                format!("`{name}`: `{at}` cannot be read: {error}"),
                "mount it, or correct its directory in agent.toml",
            ),
        }
    };
    config.buckets.iter().map(one).collect()
}

pub(super) fn hooks(config: &Config) -> Vec<Finding> {
    let (known, refused) = definition::list(&config.hooks_dir, config.trusted_owner());
    let at = config.hooks_dir.display();
    let ids: Vec<&str> = known.iter().map(|(id, _)| id.as_str()).collect();
    let detail = match ids.is_empty() {
        true => format!("none in `{at}`: deployments that name a hook are not placed here"),
        false => format!("{} from `{at}`", ids.join(", ")),
    };
    let mut findings = Vec::new();
    if !ids.is_empty() || refused.is_empty() {
        findings.push(Finding::works("hooks", detail));
    }
    findings.extend(known.iter().filter_map(|(id, hook)| {
        let named = hook.user.as_deref().or(config.hooks.user.as_deref());
        let missing = no_such_user("hooks", id.as_str(), named);
        missing.or_else(|| cannot_reach(config, id, hook))
    }));
    findings.extend(refused.into_iter().map(|why| Finding::broken("hooks", why, FILE_FIX)));
    findings
}

pub(super) fn engines(config: &Config) -> Vec<Finding> {
    let engines = Engines::load(&config.engines_dir, config.trusted_owner());
    let at = config.engines_dir.display();
    let mut findings: Vec<Finding> = engines
        .known()
        .iter()
        .map(|engine| {
            let (name, versions) = (&engine.name, engine.versions.join(", "));
            let program = engine.command.first().map_or("", String::as_str);
            let detail = format!("{name} {versions} ({program})");
            no_such_user("engines", &detail, engine.user.as_deref())
                .unwrap_or_else(|| Finding::works("engines", detail))
        })
        .collect();
    if findings.is_empty() && engines.refused.is_empty() {
        let help = "copy the definitions of the engines that are installed here from the package's \
                    engines.d and correct their paths";
        let detail = format!("none in `{at}`: nothing can be placed here");
        findings.push(Finding::broken("engines", detail, help));
    }
    let refused = engines.refused.into_iter();
    findings.extend(refused.map(|why| Finding::broken("engines", why, FILE_FIX)));
    findings
}

/// A definition whose user this host does not have cannot be run.
fn no_such_user(subject: &'static str, what: &str, user: Option<&str>) -> Option<Finding> {
    let why = User::named(user?).err()?;
    let help = "add the user (`useradd --system`), or name another one";
    Some(Finding::broken(subject, format!("{what}: {why}"), help))
}

/// A hook whose user cannot pass to the checkpoints saves none.
fn cannot_reach(config: &Config, id: &HookId, hook: &Definition) -> Option<Finding> {
    let folder = config.checkpoints.folder(&config.state_dir);
    let attempt = folder.join("deployment");
    let why = folder.exists().then(|| user::of(hook, config, Some(&attempt)).err())??;
    Some(Finding::broken(
        "hooks",
        format!("{id}: {why}"),
        "give it a folder, as docs/hooks.md says",
    ))
}

/// The object store of checkpoints, where one is named.
pub(super) async fn store(config: &Config) -> Option<Finding> {
    let store = config.checkpoints.store.as_ref()?;
    let url = &store.url;
    Some(match moving::look(store, config.trusted_owner()).await {
        Ok(()) => Finding::works("checkpoints", format!("{url} lets this host in")),
        Err(why) => Finding::broken(
            "checkpoints",
            format!("{url}: {why}"),
            "correct [checkpoints.store]: hooks that save into it or restore from it fail",
        ),
    })
}

const FILE_FIX: &str = "correct the file or take it away (programs in /usr/lib/wharfage are the \
                        package's libexec); `wharfage-agent check-config` reads it again";
