//! The cloud that this machine is of, and its metadata service: chosen from what the kernel says of
//! the board, asked at that cloud's own address and never at another's.

mod alibaba;
mod aws;
mod azure;
pub mod client;
mod gcp;
pub mod service;
pub mod source;
mod tencent;
mod time;
pub mod told;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use self::source::Source;
use super::settings::CloudChoice;

/// A cloud.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cloud {
    /// Amazon Web Services.
    Aws,
    /// Google Cloud.
    Gcp,
    /// Microsoft Azure.
    Azure,
    /// Nebius: its notice is a shutdown, which logind tells.
    Nebius,
    /// Alibaba Cloud.
    Alibaba,
    /// Tencent Cloud.
    Tencent,
    /// Oracle Cloud Infrastructure: its notice on the host is a shutdown, which logind tells.
    Oci,
}

/// What the kernel says of a board of each cloud: which file holds which words. Amazon's, Google's
/// and Microsoft's are well known; the others were not seen on a machine of theirs.
const BOARDS: [(Cloud, &str, &str); 8] = [
    (Cloud::Aws, "sys_vendor", "Amazon EC2"),
    (Cloud::Gcp, "sys_vendor", "Google"),
    (Cloud::Azure, "sys_vendor", "Microsoft Corporation"),
    (Cloud::Nebius, "sys_vendor", "Nebius"),
    (Cloud::Alibaba, "sys_vendor", "Alibaba Cloud"),
    (Cloud::Tencent, "sys_vendor", "Tencent Cloud"),
    (Cloud::Oci, "sys_vendor", "OracleCloud.com"),
    (Cloud::Oci, "chassis_asset_tag", "OracleCloud.com"),
];

impl Cloud {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Aws, Self::Gcp, Self::Azure, Self::Nebius, Self::Alibaba, Self::Tencent, Self::Oci];

    /// Its name in the settings.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Aws => "aws",
            Self::Gcp => "gcp",
            Self::Azure => "azure",
            Self::Nebius => "nebius",
            Self::Alibaba => "alibaba",
            Self::Tencent => "tencent",
            Self::Oci => "oci",
        }
    }

    /// The cloud that is meant by the settings, or by the board that the kernel describes in this
    /// folder.
    pub fn choose(choice: CloudChoice, dmi: &Path) -> Option<Self> {
        match choice {
            CloudChoice::Auto => Self::of_board(dmi),
            CloudChoice::None => None,
            CloudChoice::Of(cloud) => Some(cloud),
        }
    }

    fn of_board(dmi: &Path) -> Option<Self> {
        let says = |file: &str, words: &str| {
            let said = std::fs::read_to_string(dmi.join(file)).unwrap_or_default();
            said.trim().eq_ignore_ascii_case(words)
        };
        BOARDS.into_iter().find(|(_, file, words)| says(file, words)).map(|(cloud, ..)| cloud)
    }

    /// Its metadata service, if that tells of notices; the others' come as a shutdown.
    pub fn source(self) -> Option<Box<dyn Source>> {
        match self {
            Self::Aws => Some(Box::new(aws::Aws)),
            Self::Gcp => Some(Box::new(gcp::Gcp)),
            Self::Azure => Some(Box::new(azure::Azure)),
            Self::Alibaba => Some(Box::new(alibaba::Alibaba)),
            Self::Tencent => Some(Box::new(tencent::Tencent)),
            Self::Nebius | Self::Oci => None,
        }
    }
}

impl fmt::Display for Cloud {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The address that several clouds' services have, on a machine's own link.
fn link_local() -> (IpAddr, &'static str) {
    (IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)), "169.254.169.254")
}

#[cfg(test)]
mod tests {
    use hyper::header::{HeaderMap, HeaderValue};
    use proptest::prelude::*;
    use proptest::sample::Index;
    use wharfage_agent_core::input::Input;
    use wharfage_shared::time::{Boottime, Timestamp};

    use super::client::Answer;
    use super::source::Heard;
    use super::told::{Instant, Told};
    use super::*;
    use crate::notices::settings::Notices;
    use crate::testing::{Folder, repeatable};

    /// What services say, to be spoilt.
    const SAID: [&str; 8] = [
        r#"{"action": "terminate", "time": "2026-01-01T00:02:00Z"}"#,
        r#"{"noticeTime": "2026-01-01T00:00:00Z"}"#,
        r#"[{"NotBefore":"1 Jan 2026 09:00:43 GMT","Code":"system-reboot","EventId":"e","State":"active"}]"#,
        "Terminated",
        "TERMINATE_ON_HOST_MAINTENANCE",
        r#"{"window_start_time":"2026-12-01T19:00:01Z"}"#,
        r#"{"Events":[{"EventId":"E","EventType":"Preempt","Resources":["vm-0"],"NotBefore":"Thu, 01 Jan 2026 00:00:30 GMT"}]}"#,
        "2026-01-01 08:02:00",
    ];

    #[test]
    fn the_board_says_whose_machine_it_is_and_the_settings_have_the_last_word() {
        let folder = Folder::new("dmi");
        let chosen = |choice| Cloud::choose(choice, folder.path());
        assert_eq!(chosen(CloudChoice::Auto), None, "nothing is said");
        for (file, words, cloud) in BOARDS.map(|(cloud, file, words)| (file, words, cloud)) {
            let path = folder.path().join(file);
            std::fs::write(&path, format!("{words}\n")).expect("written");
            assert_eq!(chosen(CloudChoice::Auto), Some(cloud));
            std::fs::remove_file(&path).expect("removed");
        }
        std::fs::write(folder.path().join("sys_vendor"), "Dell Inc.\n").expect("written");
        assert_eq!(chosen(CloudChoice::Auto), None, "a machine of one's own");
        std::fs::write(folder.path().join("sys_vendor"), "Amazon EC2\n").expect("written");
        assert_eq!(chosen(CloudChoice::None), None);
        assert_eq!(chosen(CloudChoice::Of(Cloud::Azure)), Some(Cloud::Azure));
    }

    proptest! {
        #![proptest_config(repeatable())]

        #[test]
        fn no_answer_is_too_strange_and_no_deadline_lies_back(
            said in prop::sample::select(SAID.as_slice()),
            at in any::<Index>(),
            put in prop_oneof![Just(String::new()), ".{0,20}", "[0-9]{1,12}", "[{}\\[\\]\",:TZ]"],
            dropped in 0usize..12,
            status in prop_oneof![Just(200u16), Just(404), Just(503)],
            date in prop_oneof![Just(String::new()), "[ -~]{0,40}"],
        ) {
            let mut text: Vec<char> = said.chars().collect();
            let from = at.index(text.len());
            text.splice(from..(from + dropped).min(text.len()), put.chars());
            let mut headers = HeaderMap::new();
            headers.insert("metadata-flavor", HeaderValue::from_static("Google"));
            headers.extend(HeaderValue::from_str(&date).ok().map(|date| (hyper::header::DATE, date)));
            let (now, wall) = (Boottime(500_000), Timestamp(1_767_225_600_000));
            let text: String = text.into_iter().collect();
            let answer = Answer { status, headers, text, at: now, wall };
            let settings = Notices::default();
            for cloud in [Cloud::Aws, Cloud::Gcp, Cloud::Azure, Cloud::Alibaba, Cloud::Tencent] {
                let source = cloud.source().expect("it has one");
                let mut told = Told::new(source.name());
                for question in source.questions(&settings) {
                    let question = question.name;
                    let heard =
                        Heard { question, answer: &answer, own_name: "vm-0", settings: &settings };
                    let Ok(events) = source.read(heard) else { continue };
                    let at = Instant { now, there: answer.service_time() };
                    for input in told.hear(&events, at).inputs {
                        if let Input::NoticeHeard(notice) = input {
                            prop_assert!(notice.gone_at >= now, "{notice:?}");
                        }
                    }
                }
            }
        }
    }
}
