//! Records as kernels write them, and what must never be taken for one.

use proptest::prelude::*;

use super::*;

/// As `/dev/kmsg` gave them on hosts with faulty GPUs: one record a line, dictionaries below.
const RECORDED: &str = include_str!("recorded.txt");

fn xids(text: &str) -> Vec<(u64, u32)> {
    let mut parser = Parser::default();
    let mut heard = parser.feed(text.as_bytes());
    heard.extend(parser.settle());
    heard.into_iter().map(|heard| (heard.sequence, heard.line.xid)).collect()
}

#[test]
fn recorded_records_give_their_xids_and_nothing_else_does() {
    let expected = [(1201, 79), (1203, 154), (1209, 48), (1210, 63), (1214, 31), (1219, 119)];
    assert_eq!(xids(RECORDED), expected);
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
fn a_line_that_was_split_over_several_records_is_joined() {
    let split = "4,20,1,c;NVRM: Xid (PCI:0000:3b\n6,21,1,-;usb 1-1: reset\n";
    assert_eq!(xids(split), [], "what stands between ends it");
    let split = "4,20,1,c;NVRM: Xid (PCI:0000:\n4,21,2,+c;3b:00): 7\n4,22,3,+;9, GPU is lost\n";
    assert_eq!(xids(split), [(22, 79)]);
    let alone = "4,20,1,c;NVRM: Xid (PCI:0000:3b:00): 79, and nothing follows\n";
    assert_eq!(xids(alone), [(20, 79)], "the rest of it does not come");
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
    let heard = parser.feed(b"4,9,5140900,-;NVRM: Xid (PCI:0000:3b:00): 79, x\n");
    assert_eq!(heard[0].at, Boottime(5_140));
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
