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
    /// Nebius.
    Nebius,
    /// Alibaba Cloud.
    Alibaba,
    /// Tencent Cloud.
    Tencent,
    /// Oracle Cloud Infrastructure.
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
    /// The cloud that is meant by the settings, or by the board that the kernel describes in this
    /// folder.
    pub fn choose(choice: CloudChoice, dmi: &Path) -> Option<Self> {
        match choice {
            CloudChoice::Auto => Self::of_board(dmi),
            CloudChoice::None => None,
            CloudChoice::Aws => Some(Self::Aws),
            CloudChoice::Gcp => Some(Self::Gcp),
            CloudChoice::Azure => Some(Self::Azure),
            CloudChoice::Nebius => Some(Self::Nebius),
            CloudChoice::Alibaba => Some(Self::Alibaba),
            CloudChoice::Tencent => Some(Self::Tencent),
            CloudChoice::Oci => Some(Self::Oci),
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
        f.write_str(match self {
            Self::Aws => "aws",
            Self::Gcp => "gcp",
            Self::Azure => "azure",
            Self::Nebius => "nebius",
            Self::Alibaba => "alibaba",
            Self::Tencent => "tencent",
            Self::Oci => "oci",
        })
    }
}

/// The address that several clouds' services have, on a machine's own link.
fn link_local() -> (IpAddr, &'static str) {
    (IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)), "169.254.169.254")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Folder;

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
        assert_eq!(chosen(CloudChoice::Azure), Some(Cloud::Azure));
    }
}
