//! What can be announced, by its word in a script: which cloud says it, which options it has.

use std::str::FromStr;

/// A cloud whose metadata service is imitated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cloud {
    /// Amazon Web Services.
    Aws,
    /// Google Cloud.
    Gcp,
    /// Microsoft Azure.
    Azure,
    /// Nebius: its notice is a shutdown, its metadata service names none.
    Nebius,
    /// Alibaba Cloud.
    Alibaba,
    /// Tencent Cloud.
    Tencent,
    /// Oracle Cloud Infrastructure: its metadata service names no notice either.
    Oci,
}

impl Cloud {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Aws, Self::Gcp, Self::Azure, Self::Nebius, Self::Alibaba, Self::Tencent, Self::Oci];

    /// Its name on the command line and before the dot of its words.
    pub fn word(self) -> &'static str {
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
}

impl FromStr for Cloud {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|cloud| cloud.word() == text);
        found.ok_or_else(|| {
            let all = Self::ALL.map(Self::word).join(", ");
            format!("`{text}` is no cloud that is imitated; accepted: {all}")
        })
    }
}

/// How far ahead an announcement is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ahead {
    /// It states no time.
    Never,
    /// It states one, so many milliseconds ahead when the script does not say.
    Default(i64),
}

/// A word of the script.
#[derive(Debug, PartialEq, Eq)]
pub struct Kind {
    /// The word.
    pub word: &'static str,
    /// Who says it.
    pub cloud: Cloud,
    /// What may follow; the first is meant when nothing does.
    pub options: &'static [&'static str],
    /// How far ahead.
    pub ahead: Ahead,
    /// Whether `id`, `on` and `started` may follow.
    pub is_event: bool,
}

const fn kind(
    word: &'static str,
    cloud: Cloud,
    options: &'static [&'static str],
    ahead: Ahead,
    is_event: bool,
) -> Kind {
    Kind { word, cloud, options, ahead, is_event }
}

const SECOND: i64 = 1000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;

/// Every word that announces something.
pub const KINDS: [Kind; 14] = [
    kind(
        "aws.spot",
        Cloud::Aws,
        &["terminate", "stop", "hibernate"],
        Ahead::Default(2 * MINUTE),
        false,
    ),
    kind("aws.rebalance", Cloud::Aws, &[], Ahead::Never, false),
    kind(
        "aws.maintenance",
        Cloud::Aws,
        &[
            "system-reboot",
            "instance-reboot",
            "system-maintenance",
            "instance-retirement",
            "instance-stop",
        ],
        Ahead::Default(HOUR),
        true,
    ),
    kind("aws.asg", Cloud::Aws, &["Terminated", "InService", "Standby"], Ahead::Never, false),
    kind("gcp.preempted", Cloud::Gcp, &[], Ahead::Never, false),
    kind("gcp.maintenance", Cloud::Gcp, &["terminate", "migrate"], Ahead::Never, false),
    kind("gcp.upcoming", Cloud::Gcp, &["json", "text", "rest"], Ahead::Default(HOUR), false),
    kind("azure.preempt", Cloud::Azure, &[], Ahead::Default(30 * SECOND), true),
    kind("azure.terminate", Cloud::Azure, &[], Ahead::Default(5 * MINUTE), true),
    kind("azure.redeploy", Cloud::Azure, &[], Ahead::Default(10 * MINUTE), true),
    kind("azure.reboot", Cloud::Azure, &[], Ahead::Default(15 * MINUTE), true),
    kind("azure.freeze", Cloud::Azure, &[], Ahead::Default(15 * MINUTE), true),
    kind("alibaba.spot", Cloud::Alibaba, &[], Ahead::Default(5 * MINUTE), false),
    kind("tencent.spot", Cloud::Tencent, &[], Ahead::Default(2 * MINUTE), false),
];

/// Something that the script announces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// Its word.
    pub kind: &'static Kind,
    /// What followed it.
    pub option: &'static str,
    /// How far ahead it is, in milliseconds; absent = it states no time.
    pub ahead_ms: Option<i64>,
    /// How the event is called; absent = the emulator gives it a number.
    pub id: Option<String>,
    /// Which machines it is about; none named = this one.
    pub on: Vec<String>,
    /// It has begun.
    pub is_started: bool,
}
