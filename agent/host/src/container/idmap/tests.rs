use super::*;

fn pair(host: u32, container: u32) -> IdPair {
    IdPair { host, container }
}

#[test]
fn two_ids_change_places_and_the_others_stay() {
    assert_eq!(extents(pair(1000, 999)), "0 0 999\n1001 1001 4294966294\n999 1000 1\n1000 999 1\n");
    assert_eq!(extents(pair(0, 5)), "1 1 4\n6 6 4294967289\n0 5 1\n5 0 1\n");
    assert_eq!(extents(pair(7, 7)), "0 0 4294967295\n");
}

#[test]
fn every_id_but_none_is_in_exactly_one_extent_on_either_side() {
    for (host, container) in [(1000, 999), (0, 5), (5, 0), (0, u32::MAX - 1), (3, 4)] {
        let text = extents(pair(host, container));
        for side in [0, 1] {
            let number = |word: Option<&str>| word.unwrap().parse::<u64>().unwrap();
            let mut ranges: Vec<(u64, u64)> = text
                .lines()
                .map(|line| {
                    let words: Vec<&str> = line.split(' ').collect();
                    (number(words.get(side).copied()), number(words.get(2).copied()))
                })
                .collect();
            ranges.sort_unstable();
            let mut next = 0;
            for (start, length) in ranges {
                assert_eq!(start, next, "{text}");
                next += length;
            }
            assert_eq!(next, u64::from(u32::MAX), "{text}");
        }
    }
}

#[test]
fn the_kernel_takes_the_map() {
    let map = IdMap { uid: pair(1234, 1000), gid: Some(pair(0, 5)) };
    let namespace = user_namespace(&map).unwrap();
    assert!(namespace.metadata().unwrap().len() == 0);
    let map = IdMap { uid: pair(u32::MAX, 0), gid: None };
    let error = user_namespace(&map).unwrap_err();
    assert_eq!(error.to_string(), "the kernel refuses the map of uid 4294967295:0");
}
