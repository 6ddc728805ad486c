//! What a campaign is called.

use std::fmt;
use std::time::{Duration, SystemTime};

use super::parameters::Parameters;

/// The id of a campaign: what names it in the database.
///
/// A call with an id that is there already carries that campaign on, or says that it was finished before. So the id
/// says how often the work is to be done: [`monthly`](Self::monthly) and [`daily`](Self::daily) make one that is new
/// with each month or day. A text of your own is the same campaign for ever.
///
/// ```
/// use kms_core::{CampaignId, CampaignOptions};
///
/// let options = CampaignOptions::new(CampaignId::monthly()).concurrency(16);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CampaignId(Form);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Form {
    Text(String),
    Monthly,
    Daily,
    Made,
}

impl CampaignId {
    /// One campaign for each month: `rotate-2026-11`, `rewrap-2026-11`. The month is that of the call, in UTC.
    #[must_use]
    pub fn monthly() -> Self {
        Self(Form::Monthly)
    }

    /// One campaign for each day: `rotate-2026-11-28`. The day is that of the call, in UTC.
    #[must_use]
    pub fn daily() -> Self {
        Self(Form::Daily)
    }

    /// One campaign for each day and each set of parameters: `rotate-2026-11-28-1f0c6a2b`.
    pub(super) fn made() -> Self {
        Self(Form::Made)
    }

    /// Whether it can name a campaign.
    pub(super) fn is_valid(&self) -> bool {
        match &self.0 {
            Form::Text(text) => !text.trim().is_empty() && text.len() <= 255,
            Form::Monthly | Form::Daily | Form::Made => true,
        }
    }

    /// The id for a call at this time.
    pub(super) fn text(&self, kind: &str, parameters: &Parameters, now: SystemTime) -> String {
        let date = Date::of(now);
        match &self.0 {
            Form::Text(text) => text.clone(),
            Form::Monthly => format!("{kind}-{:04}-{:02}", date.year, date.month),
            Form::Daily => format!("{kind}-{date}"),
            Form::Made => format!("{kind}-{date}-{}", parameters.short_digest()),
        }
    }
}

impl From<&str> for CampaignId {
    fn from(text: &str) -> Self {
        Self::from(text.to_owned())
    }
}

impl From<String> for CampaignId {
    fn from(text: String) -> Self {
        Self(Form::Text(text))
    }
}

/// A day in UTC.
#[derive(Debug, PartialEq, Eq)]
struct Date {
    year: u64,
    month: u64,
    day: u64,
}

impl Date {
    /// A time before 1970 counts as 1970: the clock of such a machine is not set.
    fn of(time: SystemTime) -> Self {
        const DAY: u64 = 24 * 60 * 60;
        let since = time.duration_since(SystemTime::UNIX_EPOCH);
        let days = since.unwrap_or(Duration::ZERO).as_secs() / DAY;
        // Years begin in March here, so that a leap day is the last of its year; 400 of them have 146,097 days.
        let days = days + 719_468;
        let (era, day_of_era) = (days / 146_097, days % 146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let month = if month_from_march < 10 {
            month_from_march + 3
        } else {
            month_from_march - 9
        };
        Self {
            year: era * 400 + year_of_era + u64::from(month <= 2),
            month,
            day: day_of_year - (153 * month_from_march + 2) / 5 + 1,
        }
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}-{:02}", self.year, self.month, self.day)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn date(seconds: u64) -> String {
        Date::of(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)).to_string()
    }

    #[test]
    fn a_time_falls_on_its_day_in_utc() {
        for (seconds, expected) in [
            (0, "1970-01-01"),
            (951_782_399, "2000-02-28"),
            (951_782_400, "2000-02-29"),
            (951_868_800, "2000-03-01"),
            (1_709_164_800, "2024-02-29"),
            (1_700_000_000, "2023-11-14"),
            (1_798_761_599, "2026-12-31"),
            (1_798_761_600, "2027-01-01"),
            (4_107_542_400, "2100-03-01"),
        ] {
            assert_eq!(date(seconds), expected);
        }
    }

    #[test]
    fn the_clock_of_a_machine_that_is_not_set_gives_a_date_too() {
        let before = SystemTime::UNIX_EPOCH - Duration::from_secs(1);
        assert_eq!(Date::of(before).to_string(), "1970-01-01");
    }
}
