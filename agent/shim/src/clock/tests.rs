use super::*;

#[test]
fn known_moments() {
    let cases = [
        (0, 0, "1970-01-01T00:00:00.000000000Z"),
        (951_782_399, 999_999_999, "2000-02-28T23:59:59.999999999Z"),
        (951_782_400, 1, "2000-02-29T00:00:00.000000001Z"),
        (1_234_567_890, 5_000, "2009-02-13T23:31:30.000005000Z"),
        (4_107_542_400, 0, "2100-03-01T00:00:00.000000000Z"),
    ];
    for (seconds, nanoseconds, text) in cases {
        assert_eq!(format(Duration::new(seconds, nanoseconds)), text);
    }
}

#[test]
fn every_day_of_four_hundred_years_follows_the_one_before() {
    let length = |year: u64, month: u64| match month {
        2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    let mut expected = (1970, 1, 1);
    for day in 0..146_097 {
        assert_eq!(date(day), expected);
        let (year, month, day_of_month) = expected;
        expected = if day_of_month < length(year, month) {
            (year, month, day_of_month + 1)
        } else if month < 12 {
            (year, month + 1, 1)
        } else {
            (year + 1, 1, 1)
        };
    }
}
