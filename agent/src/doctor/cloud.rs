//! Whether the metadata service of this machine's cloud is heard.

use std::sync::Arc;

use tokio::sync::{broadcast, mpsc};

use super::Finding;
use crate::config::Config;
use crate::notices::cloud::Cloud;
use crate::notices::cloud::service::{Ears, Service};
use crate::notices::settings::CloudChoice;

pub(super) async fn look(config: &Config) -> Vec<Finding> {
    let settings = &config.notices;
    let Some(cloud) = Cloud::choose(settings.cloud, &settings.dmi) else { return Vec::new() };
    let Some(source) = cloud.source() else {
        let detail = format!(
            "{cloud}: its metadata names no notice; what comes is a shutdown of this host, which \
             logind tells"
        );
        return vec![Finding::works("notices", detail)];
    };
    let (inputs, _inputs) = mpsc::channel(1);
    let (alarms, _alarms) = mpsc::channel(1);
    let ears = Ears { inputs, alarms, hearing: Arc::default(), done: broadcast::Sender::new(1) };
    let proven = Service::new(source, settings.clone(), ears).prove().await;
    proven.into_iter().map(|(question, said)| finding(config, cloud, question, said)).collect()
}

fn finding(config: &Config, cloud: Cloud, question: &str, said: Result<usize, String>) -> Finding {
    match said {
        Ok(0) => {
            let detail = format!("{cloud}: `{question}` answers, nothing is announced");
            Finding::works("notices", detail)
        }
        Ok(events) => {
            let detail = format!("{cloud}: `{question}` answers and announces {events} now");
            Finding::works("notices", detail)
        }
        Err(why) => {
            let detail = format!(
                "{cloud}: `{question}` is not heard: {why}; gate G18 fails and no spot replica \
                 comes here"
            );
            Finding::broken("notices", detail, fix(config, cloud))
        }
    }
}

fn fix(config: &Config, cloud: Cloud) -> String {
    let cloud_specific = match cloud {
        Cloud::Aws => "switch the instance's metadata on, with a hop limit of 2 for containers",
        Cloud::Gcp => "let this host reach 169.254.169.254 (metadata.google.internal)",
        Cloud::Azure => {
            "let this host reach 169.254.169.254; the first answer may take two minutes"
        }
        Cloud::Alibaba => "let this host reach 100.100.100.200",
        Cloud::Tencent => "let this host reach 169.254.0.23 (metadata.tencentyun.com)",
        Cloud::Nebius | Cloud::Oci => "let this host reach its metadata service",
    };
    match (&config.notices.metadata_url, config.notices.cloud) {
        (Some(url), _) => format!("see what listens at `{url}` (notices.metadata_url)"),
        (None, CloudChoice::Auto) => format!(
            "{cloud_specific}; where this is no machine of {cloud}, set notices.cloud = \"none\""
        ),
        (None, _) => cloud_specific.to_owned(),
    }
}
