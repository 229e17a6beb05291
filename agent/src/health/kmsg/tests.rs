//! Records as kernels write them, and what must never be taken for one.

use std::io::Write;

use proptest::prelude::*;

use super::*;
use crate::testing::Folder;

/// Records as `/dev/kmsg` gives them, one a line, dictionaries below. They are put together: heads
/// and cuts are ours, after the kernel's `Documentation/ABI/testing/dev-kmsg` and `printk.c`; the
/// driver's words are those of faulty GPUs as their owners posted them, among others at NVIDIA's
/// open-gpu-kernel-modules in the issues 461 (79, 119) and 1030 (31), gpu-operator 1146 (48),
/// TensorRT-LLM 4816 (145), NVSentinel (154), NVIDIA's forum topics 47210 (13, 43) and 49452 (79),
/// and stas00/ml-engineering (63).
const COMPOSED: &str = include_str!("composed.txt");

fn xids(text: &str) -> Vec<(u64, u32)> {
    let mut parser = Parser::default();
    let mut heard = parser.feed(text.as_bytes());
    heard.extend(parser.settle());
    heard.into_iter().map(|heard| (heard.sequence, heard.line.xid)).collect()
}

#[test]
fn what_drivers_are_known_to_say_gives_its_xids_and_nothing_else_does() {
    let expected = [
        (1201, 79),
        // Once more, without its number.
        (1202, 79),
        (1203, 119),
        (1204, 154),
        (1210, 48),
        (1211, 63),
        (1215, 31),
        (1216, 13),
        (1217, 43),
        (1218, 145),
        (1220, 119),
        (1223, 79),
    ];
    assert_eq!(xids(COMPOSED), expected);
}

#[test]
fn what_a_process_writes_to_the_log_is_refused() {
    let line = "NVRM: Xid (PCI:0000:3b:00): 79, pid=1, GPU has fallen off the bus.";
    assert_eq!(xids(&format!("4,9,1,-;{line}\n")), [(9, 79)]);
    for user in [12, 8, 15, 28, 100, 4_294_967_295_u32] {
        assert_eq!(xids(&format!("{user},9,1,-;{line}\n")), [], "priority {user}");
    }
}

#[test]
fn a_line_that_a_kernel_of_today_has_split_is_joined() {
    let line = |caller: &str| {
        format!(
            "4,20,1,-{caller};NVRM: Xid (PCI:0000:3b:00): 7\n6,21,1,-;usb 1-1: reset\n4,22,2,c\
             {caller};9, pid=1, GPU has fallen\n4,23,2,c{caller}; off the bus.\n"
        )
    };
    assert_eq!(xids(&line("")), [(23, 79)], "another line came between");
    assert_eq!(xids(&line(",caller=T801")), [(23, 79)]);
    let beside = "4,20,1,-;NVRM: Xid (PCI:0000:3b:00): 7\n4,21,2,c;9, GPU\n";
    assert_eq!(xids(beside), [(21, 79)], "the record was full");
    let early = "4,20,1,-;NVRM: X\n4,21,2,c;id (PCI:0000:3b:00): 48, DBE\n";
    assert_eq!(xids(early), [(21, 48)]);
    let whole = "4,20,1,-;NVRM: Xid (PCI:0000:3b:00): 48, DBE\n4,21,2,c; of somebody else\n";
    assert_eq!(xids(whole), [(21, 48)], "no words behind the number make another one of it");
}

#[test]
fn a_fragment_of_another_caller_is_not_joined() {
    let text = "4,20,1,-,caller=T801;NVRM: Xid (PCI:0000:3b:00): 7\n\
                4,21,2,c,caller=C3;4, of an interrupt\n4,22,3,c,caller=T801;9, GPU is lost\n";
    assert_eq!(xids(text), [(22, 79)]);
    let text = "4,20,1,-,caller=T801;NVRM: Xid (PCI:0000:3b:00): 45, pid=1\n\
                6,21,1,-,caller=T801;NVRM: GPU0\n4,22,2,c,caller=T801; and its rest\n";
    assert_eq!(xids(text), [(20, 45)], "who begins another line has ended this one");
}

#[test]
fn a_line_that_an_old_kernel_has_split_is_joined() {
    let split = "4,20,1,c;NVRM: Xid (PCI:0000:3b\n6,21,1,-;usb 1-1: reset\n";
    assert_eq!(xids(split), [], "its rest does not come");
    let split = "4,20,1,c;NVRM: Xid (PCI:0000:\n4,21,2,+;3b:00): 7\n4,22,3,+;9, GPU is lost\n";
    assert_eq!(xids(split), [(22, 79)]);
    let alone = "4,20,1,c;NVRM: Xid (PCI:0000:3b:00): 79, and nothing follows\n";
    assert_eq!(xids(alone), [(20, 79)]);
    let second = "4,19,1,-;NVRM: Xid (PCI:0000:3b:00): 45, pid=1\n4,20,1,c;NVRM: Xid (PCI:0000:\n\
                  4,21,2,+;3b:00): 48, DBE\n";
    assert_eq!(xids(second), [(19, 45), (21, 48)], "its first fragment begins a line");
}

#[test]
fn xids_come_in_the_order_of_their_records_and_none_is_held_for_ever() {
    let two =
        "4,1,1,-;NVRM: Xid (PCI:0000:3b:00): 48, DBE\n4,2,2,-;NVRM: Xid (PCI:0000:3b:00): 63\n";
    assert_eq!(xids(two), [(1, 48), (2, 63)]);
    let mut parser = Parser::default();
    let mut told = parser.feed(b"4,1,1,-;NVRM: Xid (PCI:0000:3b:00): 48, DBE\n");
    for number in 2..=10 {
        assert!(told.is_empty(), "it may still go on");
        told = parser.feed(format!("6,{number},1,-;usb 1-1: reset\n").as_bytes());
    }
    assert_eq!(told[0].line.xid, 48, "a busy log does not hold it up");
}

#[test]
fn the_reader_joins_what_comes_in_pieces_and_tells_what_does_not_go_on() {
    let folder = Folder::new("kmsg");
    let path = folder.path().join("kmsg");
    rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::from_raw_mode(0o600))
        .expect("made");
    let stop = CancellationToken::new();
    let mut said = start(&path, stop.clone()).expect("it can be opened");
    let mut log = File::options().write(true).open(&path).expect("a reader is there");
    let mut hear = |record: &str| {
        log.write_all(record.as_bytes()).expect("written");
        match said.blocking_recv() {
            Some(Said::Xid(heard)) => (heard.sequence, heard.line.xid),
            other => panic!("no XID: {other:?}"),
        }
    };
    assert_eq!(hear("4,1,1,-;NVRM: Xid (PCI:0000:3b:00): 79, GPU\n"), (1, 79));
    assert_eq!(hear("4,2,1,-;NVRM: Xid (PCI:0000:3b:00): 4\n4,3,1,c;8, DBE\n"), (3, 48));
    stop.cancel();
}

#[test]
fn bytes_that_the_kernel_escapes_are_bytes_again() {
    assert_eq!(unescaped("a\\x09b\\x5cc"), "a\tb\\c");
    assert_eq!(unescaped("\\x"), "\\x");
    assert_eq!(unescaped("\\xzz\\x1"), "\\xzz\\x1");
}

#[test]
fn an_instant_of_a_record_is_the_hosts_own_clock() {
    let mut parser = Parser::default();
    assert_eq!(parser.feed(b"4,9,5140900,-;NVRM: Xid (PCI:0000:3b:00): 79, x\n"), []);
    assert_eq!(parser.settle().map(|heard| heard.at), Some(Boottime(5_140)));
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic_and_pieces_give_what_the_whole_gives(
        bytes in proptest::collection::vec(any::<u8>(), 0..600), cut in 0usize..600,
    ) {
        let mut whole = Parser::default();
        let all = whole.feed(&bytes);
        let (one, two) = bytes.split_at(cut.min(bytes.len()));
        let mut pieces = Parser::default();
        let mut again = pieces.feed(one);
        again.extend(pieces.feed(two));
        prop_assert_eq!(all, again);
        prop_assert_eq!(whole.settle(), pieces.settle());
    }

    #[test]
    fn no_text_in_the_place_of_a_field_makes_it_panic(
        priority in "[0-9,;cA-]{0,12}", flags in ".{0,6}", message in ".{0,80}",
    ) {
        let text = format!("{priority},{priority},1,{flags};NVRM: Xid ({message}): {message}\n");
        let mut parser = Parser::default();
        drop(parser.feed(text.as_bytes()));
        drop(parser.settle());
    }
}
