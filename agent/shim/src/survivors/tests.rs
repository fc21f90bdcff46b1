use super::*;

fn record(pid: u32, parent: u32) -> Vec<u8> {
    let mut record = vec![0; RECORD_SIZE];
    record[PID_OFFSET..PID_OFFSET + 4].copy_from_slice(&pid.to_ne_bytes());
    record[PARENT_OFFSET..PARENT_OFFSET + 4].copy_from_slice(&parent.to_ne_bytes());
    record
}

#[test]
fn only_what_ended_after_the_first_process_ended_with_it() {
    // A child that ended before, the first process, a child that ended with it, and a probe from outside.
    let records = [record(2, 1), record(1, 0), record(3, 1), record(9, 0)].concat();
    assert_eq!(ended_with_the_first(&records), 1);
    assert_eq!(ended_with_the_first(&record(2, 1)), 0);
    assert_eq!(ended_with_the_first(b"cut off"), 0);
}
