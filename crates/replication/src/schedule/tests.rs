//! Expressions × instants, and the next time against a search minute by minute.

use super::*;
use proptest::prelude::*;

fn utc(text: &str) -> Schedule {
    Schedule::parse(text, &TimeZone::UTC).unwrap()
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

#[test]
fn the_next_time_is_the_one_the_expression_names() {
    for (expression, after, expected) in [
        ("* * * * *", "2024-01-01T00:00:00Z", "2024-01-01T00:01:00Z"),
        ("* * * * *", "2024-01-01T00:00:59.999999999Z", "2024-01-01T00:01:00Z"),
        ("*/15 * * * *", "2024-01-01T00:44:00Z", "2024-01-01T00:45:00Z"),
        ("*/15 * * * *", "2024-01-01T00:45:00Z", "2024-01-01T01:00:00Z"),
        ("7/20 * * * *", "2024-01-01T00:28:00Z", "2024-01-01T00:47:00Z"),
        ("0-30/5 8-18 * * 1-5", "2024-01-05T18:30:00Z", "2024-01-08T08:00:00Z"),
        ("1-5,7 * * * *", "2024-01-01T00:05:30Z", "2024-01-01T00:07:00Z"),
        ("1-5/2,50 0 * * *", "2024-01-01T00:05:00Z", "2024-01-01T00:50:00Z"),
        ("0 */7 * * *", "2024-01-01T21:00:00Z", "2024-01-02T00:00:00Z"),
        ("0 20/3 * * *", "2024-01-01T20:00:00Z", "2024-01-01T23:00:00Z"),
        ("0 0 29 2 *", "2024-02-29T00:00:00Z", "2028-02-29T00:00:00Z"),
        ("0 0 31 1,3,4 *", "2024-01-31T00:00:00Z", "2024-03-31T00:00:00Z"),
        // Both days restricted: either will do.
        ("0 0 13 * 5", "2024-09-06T00:00:00Z", "2024-09-13T00:00:00Z"),
        ("0 0 13 * 5", "2024-09-13T00:00:00Z", "2024-09-20T00:00:00Z"),
        ("0 0 15 * 5", "2024-09-13T00:00:00Z", "2024-09-15T00:00:00Z"),
        ("0 0 30 2 1", "2024-01-01T00:00:00Z", "2024-02-05T00:00:00Z"),
        // One restricted: that one decides.
        ("0 0 * * 0", "2024-09-13T00:00:00Z", "2024-09-15T00:00:00Z"),
        ("0 0 */1 * 0", "2024-09-13T00:00:00Z", "2024-09-15T00:00:00Z"),
        // A step restricts.
        ("0 0 */10 * 0", "2024-09-13T00:00:00Z", "2024-09-15T00:00:00Z"),
        ("0 0 */10 * 0", "2024-09-15T00:00:00Z", "2024-09-21T00:00:00Z"),
        ("@hourly", "2024-01-01T00:00:00Z", "2024-01-01T01:00:00Z"),
        ("@daily", "2024-01-01T00:00:00Z", "2024-01-02T00:00:00Z"),
        ("@weekly", "2024-01-01T00:00:00Z", "2024-01-07T00:00:00Z"),
        ("@monthly", "2024-01-01T00:00:00Z", "2024-02-01T00:00:00Z"),
        ("@yearly", "2024-01-01T00:00:00Z", "2025-01-01T00:00:00Z"),
        ("@annually", "2024-01-01T00:00:00Z", "2025-01-01T00:00:00Z"),
        ("TZ=Asia/Tokyo 0 6 * * *", "2024-01-01T00:00:00Z", "2024-01-01T21:00:00Z"),
        ("CRON_TZ=UTC 0 0 * * *", "2024-01-01T00:00:00Z", "2024-01-02T00:00:00Z"),
        ("TZ=Europe/Berlin   0 3 * * *", "2024-01-01T00:00:00Z", "2024-01-01T02:00:00Z"),
    ] {
        assert_eq!(
            utc(expression).next_after(at(after)),
            Some(at(expected)),
            "{expression} after {after}"
        );
    }
}

#[test]
fn a_time_the_clock_skips_is_skipped_and_one_it_repeats_comes_twice() {
    for (zone, expression, after, expected) in [
        // Berlin: 02:00 becomes 03:00 on 31 March, 03:00 becomes 02:00 on 27 October.
        ("Europe/Berlin", "30 2 * * *", "2024-03-30T01:30:00Z", "2024-04-01T00:30:00Z"),
        ("Europe/Berlin", "0 * * * *", "2024-03-31T00:00:00Z", "2024-03-31T01:00:00Z"),
        ("Europe/Berlin", "0 3 * * *", "2024-03-31T00:00:00Z", "2024-03-31T01:00:00Z"),
        ("Europe/Berlin", "30 2 * * *", "2024-10-26T00:30:00Z", "2024-10-27T00:30:00Z"),
        ("Europe/Berlin", "30 2 * * *", "2024-10-27T00:30:00Z", "2024-10-27T01:30:00Z"),
        ("Europe/Berlin", "30 2 * * *", "2024-10-27T01:30:00Z", "2024-10-28T01:30:00Z"),
        ("Europe/Berlin", "10,50 2 * * *", "2024-10-27T00:10:00Z", "2024-10-27T00:50:00Z"),
        ("Europe/Berlin", "10,50 2 * * *", "2024-10-27T00:50:00Z", "2024-10-27T01:10:00Z"),
        // New York: 10 March, 3 November.
        ("America/New_York", "30 2 * * *", "2024-03-09T07:30:00Z", "2024-03-11T06:30:00Z"),
        ("America/New_York", "30 1 * * *", "2024-11-03T05:30:00Z", "2024-11-03T06:30:00Z"),
        ("America/New_York", "0 0 * * *", "2024-11-03T04:00:00Z", "2024-11-04T05:00:00Z"),
        // Lord Howe moves by half an hour: 02:00 becomes 02:30 on 6 October, 02:00 becomes 01:30 on 7 April.
        ("Australia/Lord_Howe", "15 2 * * *", "2024-10-04T15:45:00Z", "2024-10-06T15:15:00Z"),
        ("Australia/Lord_Howe", "45 2 * * *", "2024-10-05T15:00:00Z", "2024-10-05T15:45:00Z"),
        ("Australia/Lord_Howe", "45 1 * * *", "2024-04-06T14:45:00Z", "2024-04-06T15:15:00Z"),
        // St John's went from 00:01 back to 23:01 of the day before on 7 November 2010.
        ("America/St_Johns", "0,30 * * * *", "2010-11-07T02:00:00Z", "2010-11-07T02:30:00Z"),
        ("America/St_Johns", "0,30 * * * *", "2010-11-07T02:30:00Z", "2010-11-07T03:00:00Z"),
        // Samoa had no 30 December 2011.
        ("Pacific/Apia", "0 12 30 12 *", "2010-12-31T00:00:00Z", "2012-12-29T22:00:00Z"),
    ] {
        let text = format!("TZ={zone} {expression}");
        assert_eq!(utc(&text).next_after(at(after)), Some(at(expected)), "{text} after {after}");
        let zone = TimeZone::get(zone).unwrap();
        let handed_in = Schedule::parse(expression, &zone).unwrap();
        assert_eq!(handed_in.next_after(at(after)), Some(at(expected)), "{text} after {after}");
    }
}

#[test]
fn only_the_dialect_is_accepted() {
    for text in
        ["* * * * * ", " 0 0 * * *", "0\t0 * * *", "0 0 * * *\n", "*/5 * * * *", "TZ= 0 0 * * *"]
    {
        assert!(Schedule::parse(text, &TimeZone::UTC).is_ok(), "{text:?}");
    }
    for text in [
        "",
        " ",
        "*",
        "* * * *",
        "1 2 3 4 5 6",
        "*  * * * *",
        "* * * * *  ",
        "12345",
        "TZ=12345",
        "CRON_TZ=12345",
        "TZ=",
        "TZ=Nowhere/City 0 0 * * *",
        "TZ=UTC @daily",
        "junk 1 2 3 4 5",
        "MON 0 0 * * *",
        "0 0 * * MON",
        "0 0 1 JAN *",
        "0 0 * * 7",
        "0 24 * * *",
        "60 * * * *",
        "0 0 0 * *",
        "0 0 32 * *",
        "0 0 * 13 *",
        "0 0 * 0 *",
        "? * * * *",
        "0 0 ? * *",
        "5-1 * * * *",
        "*/0 * * * *",
        "1- * * * *",
        "-1 * * * *",
        "1,,2 * * * *",
        "1-2-3 * * * *",
        "1/2/3 * * * *",
        "* 1-5/2 * * *",
        "* * * * 1-5,5",
        "* *,1 * * *",
        "@midnight",
        "@every 1h",
        "@every 12345",
        "@dailyXYZ",
        "@daily ",
        " @daily",
        "@Daily",
        "99999999999999999999 * * * *",
        "٣ * * * *",
    ] {
        assert!(Schedule::parse(text, &TimeZone::UTC).is_err(), "{text:?}");
    }
}

#[test]
fn a_schedule_that_never_fires_is_refused() {
    for text in ["0 0 31 2 *", "0 0 30 2 *", "0 0 31 4,6,9,11 *", "0 0 30 2 */1"] {
        let error = Schedule::parse(text, &TimeZone::UTC).unwrap_err();
        assert_eq!(error.to_string(), format!("{text:?} never fires"));
    }
}

#[test]
fn what_is_wrong_is_named() {
    let message = |text| Schedule::parse(text, &TimeZone::UTC).unwrap_err().to_string();
    assert_eq!(message("0 24 * * *"), "\"0 24 * * *\" is not a schedule: hour \"24\" is above 23");
    assert_eq!(
        message("TZ=Mars/Base 0 0 * * *"),
        "\"TZ=Mars/Base 0 0 * * *\" is not a schedule: no such time zone: \"Mars/Base\""
    );
}

#[test]
fn the_end_of_time_is_no_panic() {
    assert_eq!(utc("* * * * *").next_after(Timestamp::MAX), None);
    let _ = utc("* * * * *").next_after(Timestamp::MIN);
    let _ = utc("TZ=Pacific/Kiritimati 0 0 29 2 *").next_after(Timestamp::MAX);
}

fn an_entry(least: u32, greatest: u32) -> impl Strategy<Value = String> {
    let number = least..=greatest;
    prop_oneof![
        3 => Just("*".to_owned()),
        1 => (1_u32..30).prop_map(|step| format!("*/{step}")),
        2 => number.clone().prop_map(|n| n.to_string()),
        1 => (number.clone(), number.clone()).prop_map(|(a, b)| format!("{}-{}", a.min(b), a.max(b))),
        1 => (number.clone(), 1_u32..20).prop_map(|(n, step)| format!("{n}/{step}")),
        1 => proptest::collection::vec(number, 1..5)
            .prop_map(|list| list.iter().map(u32::to_string).collect::<Vec<_>>().join(",")),
    ]
}

fn an_expression() -> impl Strategy<Value = String> {
    (an_entry(0, 59), an_entry(0, 23), an_entry(1, 31), an_entry(1, 12), an_entry(0, 6)).prop_map(
        |(minute, hour, day, month, weekday)| format!("{minute} {hour} {day} {month} {weekday}"),
    )
}

fn a_zone() -> impl Strategy<Value = TimeZone> {
    proptest::sample::select(vec![
        "UTC",
        "Europe/Berlin",
        "America/New_York",
        "Australia/Lord_Howe",
        "Asia/Kathmandu",
    ])
    .prop_map(|name| TimeZone::get(name).unwrap())
}

/// Times worth looking at: any of 2024, and the hours around a change of clocks.
fn a_time() -> impl Strategy<Value = Timestamp> {
    let around = |text: &str| {
        let middle = at(text).as_second();
        (middle - 90_000..middle + 20_000)
            .prop_map(|second| Timestamp::from_second(second).unwrap())
    };
    prop_oneof![
        (1_704_067_200_i64..1_735_689_600)
            .prop_map(|second| Timestamp::from_second(second).unwrap()),
        around("2024-03-31T01:00:00Z"),
        around("2024-10-27T01:00:00Z"),
        around("2024-03-10T07:00:00Z"),
        around("2024-11-03T06:00:00Z"),
        around("2024-04-06T15:00:00Z"),
        around("2024-10-05T15:30:00Z"),
    ]
}

/// The next time by looking at every minute, for `minutes`.
fn by_search(schedule: &Schedule, time: Timestamp, minutes: i64) -> Option<Timestamp> {
    let Fields { minutes: in_minutes, hours, .. } = schedule.fields;
    let first = time.as_second().div_euclid(60) + 1;
    (first..first + minutes).map(|minute| Timestamp::from_second(minute * 60).unwrap()).find(
        |&at| {
            let wall = schedule.zone.to_datetime(at);
            in_minutes >> wall.minute() & 1 == 1
                && hours >> wall.hour() & 1 == 1
                && schedule.fields.month(wall.month())
                && schedule.fields.day(wall.date())
        },
    )
}

proptest! {
    #[test]
    fn no_text_makes_parsing_panic(text in "(TZ=|CRON_TZ=)?[A-Za-z/ ]{0,8}[-0-9*/, @?\\t]{0,30}|\\PC{0,30}") {
        if let Ok(schedule) = Schedule::parse(&text, &TimeZone::UTC) {
            let _ = schedule.next_after(Timestamp::UNIX_EPOCH);
        }
    }

    #[test]
    fn the_next_time_is_after_and_the_first(expression in an_expression(), zone in a_zone(), time in a_time()) {
        let Ok(schedule) = Schedule::parse(&expression, &zone) else {
            return Ok(());
        };
        let next = schedule.next_after(time);
        // Three days of minutes cover every change of clocks near `time`.
        let searched = by_search(&schedule, time, 3 * 24 * 60);
        match searched {
            Some(_) => prop_assert_eq!(next, searched),
            None => prop_assert!(next.is_none_or(|next| next > time)),
        }
        if let Some(next) = next {
            prop_assert!(schedule.contains(next));
        }
    }
}
