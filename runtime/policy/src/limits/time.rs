//! Milliseconds, and how headers write them.

/// Milliseconds since 1970-01-01 00:00 UTC, or since any other moment that one owner keeps to. At most [`FAR`].
pub type Millis = u64;

/// 2^53: the largest integer that every JSON reader keeps. As a moment it means "never".
pub const FAR: Millis = 1 << 53;

/// A moment as RFC 3339 writes it, in UTC and whole seconds, rounded up: whoever waits until then has waited long enough.
///
/// ```
/// use firecrest_policy::limits::rfc3339;
/// assert_eq!(rfc3339(1_798_761_599_001), "2027-01-01T00:00:00Z");
/// ```
pub fn rfc3339(at: Millis) -> String {
    let seconds = at.div_ceil(1000);
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    // The year has four digits there. Later moments are as good as never.
    if year > 9999 {
        return "9999-12-31T23:59:59Z".to_owned();
    }
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", second / 3600, second / 60 % 60, second % 60)
}

/// Year, month and day of a day counted from 1970-01-01. Years begin in March, so that the leap day comes last (H. Hinnant,
/// "chrono-compatible low-level date algorithms", `civil_from_days`). The engine's templates have the same sum
/// (`engine/src/text/template/time.rs`), but this room can't see that one.
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let from_march = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * from_march + 2) / 153;
    let day = from_march - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

/// A span as OpenAI's headers write it: `0s`, `120ms`, `1.5s`, `6m0s`, `1h0m2s`.
pub(super) fn span(milliseconds: Millis) -> String {
    if milliseconds > 0 && milliseconds < 1000 {
        return format!("{milliseconds}ms");
    }
    let (seconds, rest) = (milliseconds / 1000, milliseconds % 1000);
    let fraction = if rest == 0 { String::new() } else { format!(".{rest:03}").trim_end_matches('0').to_owned() };
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes) {
        (0, 0) => format!("{seconds}{fraction}s"),
        (0, _) => format!("{minutes}m{seconds}{fraction}s"),
        _ => format!("{hours}h{minutes}m{seconds}{fraction}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments() {
        for (at, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400_000, "2000-02-29T00:00:00Z"),
            (951_868_799_000, "2000-02-29T23:59:59Z"),
            (951_868_799_001, "2000-03-01T00:00:00Z"),
            (1_730_835_030_000, "2024-11-05T19:30:30Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00Z"),
            (253_402_300_799_000, "9999-12-31T23:59:59Z"),
            (FAR, "9999-12-31T23:59:59Z"),
            (u64::MAX, "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(rfc3339(at), text, "{at}");
        }
    }

    /// Day by day, by counting.
    #[test]
    fn every_day_of_five_centuries() {
        let leap = |year: u64| (year.is_multiple_of(4) && !year.is_multiple_of(100)) || year.is_multiple_of(400);
        let (mut year, mut month, mut day) = (1970, 1, 1);
        for days in 0..183_000 {
            assert_eq!(civil(days), (year, month, day));
            let length = match month {
                2 => 28 + u64::from(leap(year)),
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            day += 1;
            if day > length {
                (day, month) = (1, month + 1);
            }
            if month > 12 {
                (month, year) = (1, year + 1);
            }
        }
    }

    #[test]
    fn spans() {
        for (milliseconds, text) in
            [(0, "0s"), (7, "7ms"), (1000, "1s"), (1500, "1.5s"), (360_000, "6m0s"), (3_602_000, "1h0m2s"), (72_050, "1m12.05s")]
        {
            assert_eq!(span(milliseconds), text);
        }
    }
}
