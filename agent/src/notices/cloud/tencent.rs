//! Tencent's instance metadata: a key that is missing until a spot instance is to be released, with
//! a time that is eight hours ahead of UTC and does not say so. Its wire is from documents; it was
//! not seen on a machine of theirs.

use std::net::{IpAddr, Ipv4Addr};

use wharfage_shared::notice::NoticeSource;
use wharfage_shared::time::Millis;

use super::alibaba::{key_question, termination};
use super::source::{Event, Heard, Question, Source};
use super::time::of_tencent;
use crate::notices::settings::Notices;

const KEY: &str = "spot/termination-time";

/// A spot instance has two minutes.
const USUAL: Millis = Millis::from_seconds(120);

/// No interruption is announced longer before.
const FURTHEST: Millis = Millis::from_seconds(3600);

/// The metadata service of Tencent Cloud.
pub struct Tencent;

impl Source for Tencent {
    fn name(&self) -> NoticeSource {
        NoticeSource::Tencent
    }

    fn address(&self) -> (IpAddr, &'static str) {
        // Its name is a public one; the address behind it is on the machine's own link.
        (IpAddr::V4(Ipv4Addr::new(169, 254, 0, 23)), "metadata.tencentyun.com")
    }

    fn questions(&self, settings: &Notices) -> Vec<Question> {
        vec![key_question(KEY, settings)]
    }

    fn read(&self, heard: Heard<'_>) -> Result<Vec<Event>, String> {
        termination(heard, of_tencent, USUAL, FURTHEST)
    }
}
