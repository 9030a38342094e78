//! Dates for templates. The engine reads no clock: the host lends the time.

/// A moment, and where its reader is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WallTime {
    /// Seconds since 1970-01-01 00:00 UTC.
    pub unix_seconds: i64,
    /// What local time is ahead of UTC, in seconds.
    pub utc_offset_seconds: i32,
}

const MONTHS: [&str; 12] =
    ["January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December"];
const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// A local calendar date and time of day.
struct Local {
    year: i64,
    month: usize,
    day: i64,
    weekday: usize,
    day_of_year: i64,
    hour: i64,
    minute: i64,
    second: i64,
}

impl WallTime {
    fn local(self) -> Local {
        let seconds = self.unix_seconds.saturating_add(i64::from(self.utc_offset_seconds));
        let (days, second_of_day) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
        // Years of 365.2425 days beginning in March, so that the leap day comes last (H. Hinnant, "chrono-compatible low-level date
        // algorithms").
        let shifted = days + 719_468;
        let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let from_march = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let march_month = (5 * from_march + 2) / 153;
        let day = from_march - (153 * march_month + 2) / 5 + 1;
        let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        let leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
        let before = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334][month as usize - 1];
        Local {
            year,
            month: month as usize,
            day,
            weekday: (days + 4).rem_euclid(7) as usize,
            day_of_year: before + i64::from(leap && month > 2) + day,
            hour: second_of_day / 3600,
            minute: second_of_day / 60 % 60,
            second: second_of_day % 60,
        }
    }

    /// As C's `strftime` writes it in the C locale; a directive that is not known stays as it is.
    pub(super) fn format(self, format: &str) -> String {
        let t = self.local();
        let hour12 = if t.hour % 12 == 0 { 12 } else { t.hour % 12 };
        let mut out = String::new();
        let mut rest = format.chars();
        while let Some(c) = rest.next() {
            if c != '%' {
                out.push(c);
                continue;
            }
            let mut directive = rest.next();
            // "%-d" leaves padding out.
            let bare = directive == Some('-');
            if bare {
                directive = rest.next();
            }
            let padded = |value: i64, width: usize| if bare { value.to_string() } else { format!("{value:0width$}") };
            let Some(directive) = directive else {
                out.push_str(if bare { "%-" } else { "%" });
                break;
            };
            let text = match directive {
                'Y' => t.year.to_string(),
                'y' => padded(t.year.rem_euclid(100), 2),
                'C' => padded(t.year.div_euclid(100), 2),
                'm' => padded(t.month as i64, 2),
                'B' => MONTHS[t.month - 1].to_string(),
                'b' | 'h' => MONTHS[t.month - 1][..3].to_string(),
                'd' => padded(t.day, 2),
                'e' => format!("{:2}", t.day),
                'j' => padded(t.day_of_year, 3),
                'A' => DAYS[t.weekday].to_string(),
                'a' => DAYS[t.weekday][..3].to_string(),
                'w' => t.weekday.to_string(),
                'u' => (if t.weekday == 0 { 7 } else { t.weekday }).to_string(),
                'H' => padded(t.hour, 2),
                'I' => padded(hour12, 2),
                'M' => padded(t.minute, 2),
                'S' => padded(t.second, 2),
                'p' => (if t.hour < 12 { "AM" } else { "PM" }).to_string(),
                'F' => self.format("%Y-%m-%d"),
                'D' | 'x' => self.format("%m/%d/%y"),
                'T' | 'X' => self.format("%H:%M:%S"),
                'R' => self.format("%H:%M"),
                'c' => self.format("%a %b %e %H:%M:%S %Y"),
                's' => self.unix_seconds.to_string(),
                'z' => {
                    let minutes = self.utc_offset_seconds.abs() / 60;
                    let sign = if self.utc_offset_seconds < 0 { '-' } else { '+' };
                    format!("{sign}{:02}{:02}", minutes / 60, minutes % 60)
                }
                'n' => "\n".into(),
                't' => "\t".into(),
                '%' => "%".into(),
                other => format!("%{}{other}", if bare { "-" } else { "" }),
            };
            out.push_str(&text);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        let at = |unix_seconds, format| WallTime { unix_seconds, utc_offset_seconds: 0 }.format(format);
        assert_eq!(at(0, "%A %F %T %j"), "Thursday 1970-01-01 00:00:00 001");
        assert_eq!(at(951_782_399, "%d %B %Y"), "28 February 2000");
        assert_eq!(at(951_782_400, "%d %b %Y %j"), "29 Feb 2000 060");
        assert_eq!(at(1_735_689_599, "%c"), "Tue Dec 31 23:59:59 2024");
        assert_eq!(at(1_735_689_599, "%j %I:%M %p %-d %e"), "366 11:59 PM 31 31");
        assert_eq!(at(-1, "%Y-%m-%d %H:%M:%S"), "1969-12-31 23:59:59");
        assert_eq!(at(i64::MAX, "%Y").len(), 12);
    }

    #[test]
    fn local_time_is_ahead_by_its_offset() {
        let east = WallTime { unix_seconds: 1_700_000_000, utc_offset_seconds: 19_800 };
        assert_eq!(east.format("%F %R %z"), "2023-11-15 03:43 +0530");
        assert_eq!(WallTime { utc_offset_seconds: -3600, ..east }.format("%z %q %-Q %"), "-0100 %q %-Q %");
    }
}
