//! A deployment's body -> the checked words, with every mistake named.
//!
//! The rules are those of CoreWeave's reference. The same reader serves our own API, where the
//! `autoscaling` block may be in Baseten's names.

use std::collections::BTreeSet;

use serde_json::{Map, Value};
use wharfage_scheduler_core::words::deployment::{
    Bounds, Dialect, GpuCount, MOST_REPLICAS, Model, Priority, Runtime, Scaling, Spec,
};
use wharfage_shared::capacity::{CapacityClass, Sku};
use wharfage_shared::ids::GatewayId;

use super::extension;
use super::offer::{Offer, listed};
use super::resource::{self, Draft, LABEL, has_control, is_label};
use super::semver;
use crate::http::baseten::settings;
use crate::http::fields::{Fields, Unknown, Wrong};

const MODEL_NAME: &str = "4 to 63 characters, none of them a control character, the first no `-`";

/// The classes by name and protobuf number; the first is never accepted.
const CLASSES: [(&str, u64, CapacityClass); 3] = [
    ("CAPACITY_CLASS_RESERVED", 1, CapacityClass::Reserved),
    ("CAPACITY_CLASS_ON_DEMAND", 2, CapacityClass::OnDemand),
    ("CAPACITY_CLASS_SPOT", 3, CapacityClass::Spot),
];

/// What a body is read against.
pub struct Context<'a> {
    /// What the caller may choose from.
    pub offer: &'a Offer,
    /// Whether extensions of the foreign API are refused.
    pub strict: bool,
    /// The deployment as it is, when the body replaces it.
    pub current: Option<&'a Spec>,
    /// Whether `dialect` may be named: on our own API.
    pub own: bool,
}

/// Reads a body.
pub fn read(body: &Map<String, Value>, context: &Context<'_>) -> Result<Draft<Spec>, Vec<Wrong>> {
    let unknown = if context.own { Unknown::Refuse } else { Unknown::IgnoreEmpty };
    resource::read(body, unknown, "deployment", |fields| spec(fields, context))
}

fn spec(fields: &Fields<'_>, context: &Context<'_>) -> Option<Spec> {
    let name = name(fields, context.current);
    let model = model(fields);
    let runtime = runtime(fields, context.offer);
    let resources = resources(fields, context.offer);
    let gateways = gateways(fields, context.offer);
    let disabled = fields.flag("disabled").unwrap_or(false);
    let weight = weight(fields);
    let dialect = dialect(fields, context);
    let autoscaling = autoscaling(fields, context, dialect);
    let extension = extension::read(fields, context.strict);
    if fields.has("hotLoad") && fields.object("hotLoad").is_some() {
        fields.wrong("hotLoad", "hot loading is not offered here", "no `hotLoad` block");
    }
    let autoscaling = autoscaling?;
    let (extension, extra) = extension?;
    let mut classes = autoscaling.classes;
    if !extra.is_empty() && classes.is_empty() {
        classes = vec![CapacityClass::Reserved, CapacityClass::OnDemand];
    }
    for class in extra {
        if !classes.contains(&class) {
            classes.push(class);
        }
    }
    let (sku, gpus) = resources?;
    Some(Spec {
        name: name?,
        model: model?,
        runtime: runtime?,
        sku,
        gpus,
        gateways: gateways?,
        zone: context.current.and_then(|current| current.zone.clone()),
        disabled,
        weight,
        classes,
        priority: autoscaling.priority,
        scaling: autoscaling.scaling,
        extension,
    })
}

fn name(fields: &Fields<'_>, current: Option<&Spec>) -> Option<String> {
    if let (Some(current), false) = (current, fields.has("name")) {
        return Some(current.name.clone());
    }
    let name = fields.required_text("name", LABEL)?;
    if !is_label(name) {
        fields.wrong("name", "it is no hostname label", LABEL);
        return None;
    }
    if let Some(current) = current.filter(|current| current.name != name) {
        let accepted = format!("`{}`, or no name", current.name);
        fields.wrong("name", "a deployment's name is fixed for its life", accepted);
    }
    Some(name.to_owned())
}

fn model(fields: &Fields<'_>) -> Option<Model> {
    let model = fields.required_object("model")?;
    let name = model.required_text("name", MODEL_NAME).filter(|name| {
        // The name is an argument of the engine: it must not read as one of its flags.
        let is_flag = name.starts_with('-');
        let good = (4..=63).contains(&name.chars().count()) && !has_control(name) && !is_flag;
        if !good {
            let problem = match is_flag {
                true => "it begins with `-`".to_owned(),
                false => format!("it has {} characters", name.chars().count()),
            };
            model.wrong("name", problem, MODEL_NAME);
        }
        good
    });
    let bucket = model.required_text("bucket", LABEL).filter(|bucket| {
        if !is_label(bucket) {
            model.wrong("bucket", "it is no hostname label", LABEL);
        }
        is_label(bucket)
    });
    let path = model.required_text("path", "the model's folder in the bucket").filter(|path| {
        let steps_out = path.split(['/', '\\']).any(|part| part == "..");
        let good = !steps_out && !has_control(path) && path.len() <= 1024;
        if !good {
            let accepted = "the model's folder in the bucket: at most 1024 bytes, no `..`, no \
                            control characters";
            model.wrong("path", "it is no folder in the bucket", accepted);
        }
        good
    });
    model.finish();
    Some(Model { name: name?.to_owned(), bucket: bucket?.to_owned(), path: path?.to_owned() })
}

fn runtime(fields: &Fields<'_>, offer: &Offer) -> Option<Runtime> {
    let runtime = fields.required_object("runtime")?;
    let name = runtime.required_text("engine", &listed(offer.engines.keys()));
    let known = name.and_then(|name| offer.engines.get(name));
    if let (Some(name), None) = (name, known) {
        let problem = format!("no node offers the engine `{name}`");
        runtime.wrong("engine", problem, listed(offer.engines.keys()));
    }
    let version = runtime.text("version").unwrap_or_default();
    if !version.is_empty() {
        if semver::Version::parse(version).is_none() {
            runtime.wrong("version", format!("`{version}` is no version"), semver::ACCEPTED);
        } else if let Some(engine) = known.filter(|engine| !engine.versions.contains(version)) {
            let problem = format!("no node offers version {version} of this engine");
            runtime.wrong("version", problem, listed(engine.newest_first()));
        }
    }
    let config = runtime.text_map("engineConfig");
    let env = runtime.text_map("engineEnv");
    if let Some(engine) = known {
        check_flags(&runtime, "engineConfig", config.iter(), &engine.flags);
        check_flags(&runtime, "engineEnv", env.iter(), &engine.env);
    }
    runtime.finish();
    Some(Runtime { engine: name?.to_owned(), version: version.to_owned(), config, env })
}

/// Names must be on the list of the nodes' owners; values must not be able to pass for another
/// flag or to break a line.
fn check_flags<'a>(
    runtime: &Fields<'_>,
    key: &str,
    entries: impl Iterator<Item = (&'a String, &'a String)>,
    allowed: &BTreeSet<String>,
) {
    for (name, value) in entries {
        let field = format!("{}.{name}", runtime.name(key));
        if !allowed.contains(name) {
            let problem = if name.starts_with('-') {
                "names are given without leading dashes"
            } else {
                "the nodes' owners do not allow it"
            };
            runtime.problems().note(&field, problem, listed(allowed));
        }
        let looks_like_a_flag = value.starts_with('-') && value.parse::<f64>().is_err();
        if looks_like_a_flag || has_control(value) {
            let accepted = "a value that does not begin with `-` and has no control characters";
            runtime.problems().note(&field, "the value could pass for something else", accepted);
        }
    }
}

fn resources(fields: &Fields<'_>, offer: &Offer) -> Option<(Sku, GpuCount)> {
    let resources = fields.required_object("resources")?;
    let accepted = listed(&offer.instance_types);
    let sku = resources.required_text("instanceType", &accepted).map(Sku::new);
    if let Some(sku) = sku.as_ref().filter(|sku| !offer.instance_types.contains(sku)) {
        resources.wrong("instanceType", format!("no pool has `{sku}`"), accepted);
    }
    let counts = "1, 2, 4, 8, 16";
    let gpus = if resources.has("gpuCount") {
        let count = resources.whole("gpuCount", 0..=u32::MAX);
        let gpus = count.and_then(GpuCount::new);
        if let (Some(count), None) = (count, gpus) {
            resources.wrong("gpuCount", format!("it is {count}"), counts);
        }
        gpus
    } else {
        resources.wrong("gpuCount", "it is missing", counts);
        None
    };
    resources.finish();
    Some((sku?, gpus?))
}

fn gateways(fields: &Fields<'_>, offer: &Offer) -> Option<BTreeSet<GatewayId>> {
    let accepted = if offer.gateways.is_empty() {
        "the id of a gateway; create one first with POST /v1alpha1/inference/gateways".to_owned()
    } else {
        listed(&offer.gateways)
    };
    if !fields.has("gatewayIds") {
        fields.wrong("gatewayIds", "it is missing", accepted);
        return None;
    }
    let ids = fields.texts("gatewayIds")?;
    if ids.is_empty() && fields.list("gatewayIds").is_some_and(<[Value]>::is_empty) {
        fields.wrong("gatewayIds", "it is empty", accepted.clone());
    }
    let mut gateways = BTreeSet::new();
    for (at, id) in ids.into_iter().enumerate() {
        let gateway = GatewayId::from(id);
        if !offer.gateways.contains(&gateway) {
            let field = fields.entry("gatewayIds", at);
            fields.problems().note(&field, format!("there is no gateway `{id}`"), &*accepted);
        }
        gateways.insert(gateway);
    }
    Some(gateways)
}

fn weight(fields: &Fields<'_>) -> u16 {
    let Some(traffic) = fields.object("traffic") else { return 0 };
    let weight = traffic.whole("weight", 0..=1000).unwrap_or(0);
    traffic.finish();
    u16::try_from(weight).unwrap_or(1000)
}

fn dialect(fields: &Fields<'_>, context: &Context<'_>) -> Dialect {
    let kept = context.current.map_or(Dialect::CoreWeave, |current| current.scaling.dialect);
    if !context.own {
        return kept;
    }
    let words = [("coreweave", 1, Dialect::CoreWeave), ("baseten", 2, Dialect::Baseten)];
    let named = fields.word("dialect", &words).unwrap_or(kept);
    if context.current.is_some() && named != kept {
        fields.wrong("dialect", "it is fixed for the deployment's life", "no `dialect` here");
    }
    named
}

/// What the `autoscaling` block says.
struct Autoscaling {
    scaling: Scaling,
    priority: Priority,
    classes: Vec<CapacityClass>,
}

fn autoscaling(
    fields: &Fields<'_>,
    context: &Context<'_>,
    dialect: Dialect,
) -> Option<Autoscaling> {
    let block = fields.required_object("autoscaling")?;
    let priority = block.whole("priority", 0..=1000).and_then(Priority::new).unwrap_or_default();
    let classes = classes(&block, context.strict);
    let current = context.current.map(|current| &current.scaling);
    let scaling = match (dialect, context.own) {
        (Dialect::Baseten, true) => {
            let base = current.cloned().unwrap_or_else(Scaling::baseten);
            settings::scaling(&block, &base)
        }
        (Dialect::CoreWeave, _) | (Dialect::Baseten, false) => {
            coreweave_scaling(&block, context, current)
        }
    };
    block.finish();
    Some(Autoscaling { scaling: scaling?, priority, classes })
}

/// CoreWeave's names. What they cannot say (window, delay, utilization) stays as it is.
fn coreweave_scaling(
    block: &Fields<'_>,
    context: &Context<'_>,
    current: Option<&Scaling>,
) -> Option<Scaling> {
    let min = block.required_whole("min", 1..=MOST_REPLICAS);
    let max = block.required_whole("max", 1..=MOST_REPLICAS);
    if let (Some(min), Some(max)) = (min, max)
        && max < min
    {
        let accepted = format!("at least `autoscaling.min` ({min})");
        block.wrong("max", format!("it is {max}, below the minimum"), accepted);
    }
    // Proto's zero means "not set"; a strict client is told instead of guessed.
    let least = u32::from(context.strict);
    let concurrency = block.whole("concurrency", least..=settings::MOST_CONCURRENCY);
    let concurrency = concurrency.filter(|count| *count > 0);
    let bounds = Bounds::new(min?, max?)?;
    let mut scaling = Scaling::coreweave(bounds, concurrency);
    if let Some(current) = current {
        let Scaling { concurrency, concurrency_is_default, .. } = scaling;
        scaling = Scaling { bounds, concurrency, concurrency_is_default, ..current.clone() };
    }
    Some(scaling)
}

fn classes(block: &Fields<'_>, strict: bool) -> Vec<CapacityClass> {
    let accepted = if strict { &CLASSES[..2] } else { &CLASSES[..] };
    let mut classes = Vec::new();
    for (at, value) in block.list("capacityClasses").unwrap_or_default().iter().enumerate() {
        let field = block.entry("capacityClasses", at);
        let Some(class) = block.word_of(&field, value, accepted) else { continue };
        if classes.contains(&class) {
            block.problems().note(&field, "it is named twice", "each class once, in order");
        } else {
            classes.push(class);
        }
    }
    classes
}

/// The class's name in the API.
pub fn class_name(class: CapacityClass) -> &'static str {
    match class {
        CapacityClass::Reserved => CLASSES[0].0,
        CapacityClass::OnDemand => CLASSES[1].0,
        CapacityClass::Spot => CLASSES[2].0,
    }
}
