//! A spool gives back exactly what was appended.

use super::*;

fn read_all(spool: &Spool, from: u64) -> Vec<u8> {
    let mut reader = spool.read_from(from).unwrap();
    let mut all = Vec::new();
    loop {
        let part = reader.next().unwrap();
        if part.is_empty() {
            return all;
        }
        all.extend_from_slice(&part);
    }
}

fn positions(bytes: &[u8]) -> Vec<u64> {
    let mut bytes = BytesMut::from(bytes);
    let mut positions = Vec::new();
    while let Some(frame) = super::super::protocol::Frame::next(&mut bytes, 10_000_000).unwrap() {
        positions.push(frame.first);
    }
    assert!(bytes.is_empty(), "whole frames");
    positions
}

fn read_dead_from(dir: &Path, position: u64) -> Vec<u64> {
    let files = read_dead(dir, position).unwrap();
    files.flat_map(|bytes| positions(&bytes.unwrap())).collect()
}

#[test]
fn frames_come_back_from_any_position_and_files_go_when_trimmed() {
    let dir = tempfile::tempdir().unwrap();
    let spool = Spool::new(dir.path(), 5, 64 * 1024);
    for n in 0..40_u8 {
        spool.append(Kind::Output, 2, &vec![n; 2000]).unwrap();
    }
    assert_eq!(spool.range(), (5, 85));
    assert!(!spool.watch().borrow().room, "80,000 bytes are over the limit");
    for from in [0, 5, 6, 7, 40, 84] {
        let first = from.max(5) - (from.max(5) - 5) % 2;
        assert_eq!(positions(&read_all(&spool, from)), (first..85).step_by(2).collect::<Vec<_>>());
    }
    assert!(read_all(&spool, 85).is_empty());
    spool.trim(60);
    let (first, next) = spool.range();
    assert!(first > 5 && first <= 60 && next == 85);
    assert!(spool.watch().borrow().room);
    assert!(!read_all(&spool, 5).is_empty(), "from the first that is left");
    let dead = read_dead_from(dir.path(), 60);
    assert!(dead[0] <= 60 && dead.ends_with(&[83]), "{dead:?}");
}

#[test]
fn a_reader_that_is_close_behind_gets_the_very_frames_and_one_that_is_not_gets_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let spool = Spool::new(dir.path(), 1, 1 << 20);
    let mut close = spool.read_from(1).unwrap();
    let mut followed = Vec::new();
    for n in 0..60_u8 {
        let mut block = begin_block(0);
        block.extend_from_slice(&vec![n; if n % 3 == 0 { 30_000 } else { 50 }]);
        let frame = spool.append_block(Kind::Output, 1, &mut block).unwrap();
        let close_behind = n < 30;
        if close_behind || n % 5 == 0 {
            let part = close.next().unwrap();
            assert!(part.as_ptr() == frame.as_ptr() || !close_behind, "{n}");
            followed.extend_from_slice(&part);
        }
        assert!(spool.inner().recent_bytes <= RECENT_BYTES);
    }
    loop {
        let part = close.next().unwrap();
        if part.is_empty() {
            break;
        }
        followed.extend_from_slice(&part);
    }
    assert_eq!(followed, read_all(&spool, 1));
    assert_eq!(positions(&followed).len(), 60);
    drop(close);
    assert!(spool.inner().recent.is_empty(), "nobody reads");
}

#[test]
fn what_was_told_beside_an_output_that_is_lent_outlives_the_host_until_it_is_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let positions = || -> Vec<u64> {
        read_stored_commands(dir.path()).unwrap().into_iter().map(|(position, _)| position).collect()
    };
    assert!(positions().is_empty() && !has_records(dir.path()));
    let spool = Spool::new(dir.path(), 1, 1 << 20);
    spool.store_command(7, &[b'x'; 100]).unwrap();
    spool.store_command(9, &[b'y'; 10]).unwrap();
    assert!(has_records(dir.path()));
    assert_eq!(positions(), [7, 9]);
    spool.drop_stored_commands();
    assert_eq!((positions(), spool.stored_command_bytes()), (vec![], 0));
    // The new frames end at other offsets than the old ones.
    spool.store_command(20, &[b'z'; 90]).unwrap();
    spool.store_command(21, &[b'z'; 5]).unwrap();
    assert_eq!(positions(), [20, 21]);
    let path = dir.path().join(COMMANDS);
    let whole = fs::read(&path).unwrap();
    for length in 0..whole.len() {
        fs::write(&path, &whole[..length]).unwrap();
        assert!([20, 21].starts_with(&positions()), "{length}");
    }
}

#[test]
fn records_that_never_came_are_skipped() {
    let dir = tempfile::tempdir().unwrap();
    let spool = Spool::new(dir.path(), 1, 1 << 20);
    spool.append(Kind::Command, 1, b"start").unwrap();
    let mut reader = spool.read_from(1).unwrap();
    assert_eq!(positions(&reader.next().unwrap()), [1]);
    spool.lend(Bytes::from_static(b"aside"));
    assert!(spool.watch().borrow().lent);
    spool.skip_to(50);
    spool.skip_to(40);
    assert_eq!(spool.range(), (50, 50));
    spool.take_back(53);
    let state = *spool.watch().borrow();
    assert!(!state.lent && state.pending);
    assert_eq!(spool.range(), (50, 53), "what is pending_until counts");
    spool.append(Kind::Output, 3, b"a\nb\nc\n").unwrap();
    assert!(!spool.watch().borrow().pending);
    assert_eq!(positions(&reader.next().unwrap()), [50]);
    assert_eq!(reader.next().unwrap(), "aside");
    assert!(reader.next().unwrap().is_empty());
    assert_eq!(read_dead_from(dir.path(), 50), [50]);
}

#[test]
fn what_is_said_besides_does_not_come_in_the_middle_of_a_record() {
    let dir = tempfile::tempdir().unwrap();
    let spool = Spool::new(dir.path(), 1, 64 << 20);
    for _ in 0..9 {
        spool.append(Kind::Output, 1, &vec![b'x'; 60_000]).unwrap();
    }
    let mut reader = spool.read_from(1).unwrap();
    let mut read = reader.next().unwrap().to_vec();
    assert_eq!(read.len() as u64, READ_BYTES, "it stops in the middle of one");
    spool.send(Bytes::from_static(b"aside"));
    loop {
        let part = reader.next().unwrap();
        if part == "aside" {
            break;
        }
        read.extend_from_slice(&part);
    }
    assert_eq!(positions(&read), (1..=9).collect::<Vec<_>>());
    assert!(reader.next().unwrap().is_empty());
}

#[test]
fn what_a_file_held_before_is_never_read_whatever_part_of_a_frame_was_written_over_it() {
    let dir = tempfile::tempdir().unwrap();
    let spool = Spool::new(dir.path(), 1, 256 * 1024);
    let append = |bytes: usize| spool.append(Kind::Output, 1, &vec![b'x'; bytes]).unwrap();
    // Two files are filled and the first one is trimmed, so the third overwrites it.
    (0..33).for_each(|_| append(1000));
    let (_, next) = spool.range();
    spool.trim(next - 1);
    let spare = dir.path().join("spare.0");
    assert!(spare.exists());
    while spare.exists() {
        append(1000);
    }
    // The new frames end at other offsets than the old ones.
    append(700);
    append(300);
    let (first, next) = spool.range();
    let expected: Vec<u64> = (first..next).collect();
    assert_eq!(read_dead_from(dir.path(), first), expected);
    assert_eq!(positions(&read_all(&spool, first)), expected);
    let (path, length) = {
        let inner = spool.inner();
        let last = inner.segments.back().unwrap();
        (inner.path(last.first), usize::try_from(last.length).unwrap())
    };
    let whole = fs::read(&path).unwrap();
    // The host dies during the next write, before it writes the length.
    append(1500);
    let after = fs::read(&path).unwrap();
    let behind = length + END.len()..length + RECORD_HEAD + 1500 + END.len();
    for cut in behind.clone() {
        let mut torn = whole.clone();
        torn[behind.start..cut].copy_from_slice(&after[behind.start..cut]);
        fs::write(&path, &torn).unwrap();
        assert_eq!(read_dead_from(dir.path(), first), expected, "{cut}");
    }
    fs::write(&path, &after).unwrap();
    assert_eq!(read_dead_from(dir.path(), first), (first..=next).collect::<Vec<_>>());
}
