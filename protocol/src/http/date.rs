//! The time of day, as HTTP says it (RFC 9110 section 5.6.7).
//!
//! Owns the calendar, and no clock.

/// The length of a date, in bytes.
pub const DATE_BYTES: usize = 29;

const SECONDS_A_DAY: u64 = 86_400;

/// The days of the 400 years after which the calendar repeats itself.
const DAYS_AN_ERA: u64 = 146_097;

/// From the 1st of March of the year 0 to the 1st of January 1970, in days.
const DAYS_BEFORE_1970: u64 = 719_468;

const DAYS: &[u8; 21] = b"ThuFriSatSunMonTueWed";
const MONTHS: &[u8; 36] = b"JanFebMarAprMayJunJulAugSepOctNovDec";

/// The last second that has a year of four digits: the end of 9999.
const LAST_S: u64 = 253_402_300_799;

/// Writes the date `unix_s` seconds after the beginning of 1970, `Sun, 06 Nov 1994 08:49:37 GMT`; nothing goes beyond the year 9999.
pub fn date(unix_s: u64) -> [u8; DATE_BYTES] {
    let unix_s = unix_s.min(LAST_S);
    let (days, second) = (unix_s / SECONDS_A_DAY, unix_s % SECONDS_A_DAY);
    // Years begin in March here, so that the leap day is their last.
    let shifted = days + DAYS_BEFORE_1970;
    let (era, day) = (shifted / DAYS_AN_ERA, shifted % DAYS_AN_ERA);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day_of_month = day - (153 * month + 2) / 5 + 1;
    let month = (month + 2) % 12;
    let year = 400 * era + year + u64::from(month < 2);

    let mut out = *b"Thu, 01 Jan 1970 00:00:00 GMT";
    let day_of_week = (days % 7) as usize * 3;
    out[..3].copy_from_slice(&DAYS[day_of_week..day_of_week + 3]);
    let name = month as usize * 3;
    out[8..11].copy_from_slice(&MONTHS[name..name + 3]);
    for (place, value) in [
        (5, day_of_month),
        (12, year / 100),
        (14, year % 100),
        (17, second / 3_600),
        (20, second / 60 % 60),
        (23, second % 60),
    ] {
        out[place] = b'0' + (value / 10) as u8;
        out[place + 1] = b'0' + (value % 10) as u8;
    }
    out
}
