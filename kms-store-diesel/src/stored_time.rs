//! Times as the databases keep them, made `SystemTime`.

use std::time::SystemTime;

use diesel::deserialize::{self, FromSql, FromSqlRow};
use diesel::sql_types::Timestamp;

/// A time read from either database. Reading one never fails: the tables of Go kms hold local times,
/// several formats and `null`, and no decision hangs on a time that was read.
#[derive(Clone, Copy, Debug, FromSqlRow)]
pub(crate) struct StoredTime(SystemTime);

impl StoredTime {
    /// The time, or the epoch where the database holds none that can be read.
    pub(crate) fn or_epoch(stored: Option<Self>) -> SystemTime {
        stored.map_or(SystemTime::UNIX_EPOCH, |time| time.0)
    }
}

#[cfg(any(feature = "diesel-async", feature = "postgres"))]
mod postgres {
    use diesel::pg::{Pg, PgValue};
    use diesel::sql_types::Timestamptz;

    use super::{FromSql, StoredTime, SystemTime, Timestamp, deserialize};

    // Both are sent as microseconds since 2000-01-01 UTC, and a `timestamp` of ours is UTC.
    impl FromSql<Timestamp, Pg> for StoredTime {
        fn from_sql(value: PgValue<'_>) -> deserialize::Result<Self> {
            <SystemTime as FromSql<Timestamp, Pg>>::from_sql(value).map(Self)
        }
    }

    impl FromSql<Timestamptz, Pg> for StoredTime {
        fn from_sql(value: PgValue<'_>) -> deserialize::Result<Self> {
            <SystemTime as FromSql<Timestamp, Pg>>::from_sql(value).map(Self)
        }
    }
}

#[cfg(feature = "sqlite")]
mod sqlite {
    use chrono::{DateTime, NaiveDate, NaiveDateTime, Utc};
    use diesel::sqlite::{Sqlite, SqliteValue};

    use super::{FromSql, StoredTime, SystemTime, Timestamp, deserialize};

    impl FromSql<Timestamp, Sqlite> for StoredTime {
        fn from_sql(value: SqliteValue<'_, '_, '_>) -> deserialize::Result<Self> {
            let text = <String as FromSql<Timestamp, Sqlite>>::from_sql(value)?;
            Ok(Self(parse(&text).unwrap_or(SystemTime::UNIX_EPOCH)))
        }
    }

    /// Reads what SQLite's own functions write, what Go's drivers write (with the zone, and its name
    /// after it), and RFC 3339. A time without a zone counts as UTC.
    pub(super) fn parse(text: &str) -> Option<SystemTime> {
        const WITH_ZONE: [&str; 2] = ["%Y-%m-%d %H:%M:%S%.f %z", "%Y-%m-%d %H:%M:%S%.f%#z"];
        const WITHOUT_ZONE: [&str; 4] = [
            "%Y-%m-%d %H:%M:%S%.f",
            "%Y-%m-%dT%H:%M:%S%.f",
            "%Y-%m-%d %H:%M",
            "%Y-%m-%dT%H:%M",
        ];
        let text = text.trim();
        if let Some(time) = parse_plain(text) {
            return Some(time);
        }
        // Go's String(): "2006-01-02 15:04:05.999 -0700 MST m=+0.01".
        let zoned = text
            .match_indices(' ')
            .nth(2)
            .map_or(text, |(end, _)| &text[..end]);
        if let Ok(time) = DateTime::parse_from_rfc3339(text) {
            return Some(time.with_timezone(&Utc).into());
        }
        if let Some(time) = WITH_ZONE
            .iter()
            .find_map(|format| DateTime::parse_from_str(zoned, format).ok())
        {
            return Some(time.with_timezone(&Utc).into());
        }
        let naive = text.strip_suffix('Z').unwrap_or(text);
        WITHOUT_ZONE
            .iter()
            .find_map(|format| NaiveDateTime::parse_from_str(naive, format).ok())
            .or_else(|| {
                NaiveDate::parse_from_str(naive, "%Y-%m-%d")
                    .ok()?
                    .and_hms_opt(0, 0, 0)
            })
            .map(|time| time.and_utc().into())
    }

    /// Reads what our own triggers and SQLite's functions write, `2023-11-14 22:13:20.000`, at a fraction of
    /// what it costs to try formats: a scope has a dozen times, and that was more than the statement took.
    fn parse_plain(text: &str) -> Option<SystemTime> {
        let (seconds, fraction) = text.split_at_checked(19)?;
        let pattern = b"dddd-dd-dd dd:dd:dd";
        let fits = seconds.bytes().zip(pattern).all(|(byte, expected)| {
            byte == *expected || (*expected == b'd' && byte.is_ascii_digit())
        });
        let part = |from: usize, to: usize| seconds[from..to].parse::<u32>().ok();
        let nanos = match fraction.strip_prefix('.') {
            None if fraction.is_empty() => 0,
            Some(digits)
                if (1..=9).contains(&digits.len())
                    && digits.bytes().all(|byte| byte.is_ascii_digit()) =>
            {
                let scale = 10_u32.pow(9 - u32::try_from(digits.len()).ok()?);
                digits.parse::<u32>().ok()? * scale
            }
            _ => return None,
        };
        if !fits {
            return None;
        }
        let date =
            NaiveDate::from_ymd_opt(part(0, 4)?.try_into().ok()?, part(5, 7)?, part(8, 10)?)?;
        let time = date.and_hms_nano_opt(part(11, 13)?, part(14, 16)?, part(17, 19)?, nanos)?;
        Some(time.and_utc().into())
    }

    #[cfg(test)]
    mod tests {
        use std::time::Duration;

        use super::*;

        #[test]
        fn the_plain_format_is_read_as_the_general_way_reads_it() {
            for text in [
                "2023-11-14 22:13:20",
                "2023-11-14 22:13:20.5",
                "2023-11-14 22:13:20.123",
                "2023-11-14 22:13:20.123456789",
                "1969-12-31 23:59:59.000",
                "2024-02-29 00:00:00",
            ] {
                let general = NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f").unwrap();
                assert_eq!(parse_plain(text), Some(general.and_utc().into()), "{text}");
            }
            for text in [
                "2023-02-29 00:00:00",
                "2023-11-14T22:13:20",
                "2023-11-14 22:13:20.",
                "2023-11-14 22:13:20.12345678901",
                "2023-11-14 22:13:20Z",
                "2023-11-14 22:13",
                "+023-11-14 22:13:20",
                "2023-11-14 22:13:2\u{fc}",
                "dddd-dd-dd dd:dd:dd",
            ] {
                assert_eq!(parse_plain(text), None, "{text}");
            }
        }

        #[test]
        fn every_format_that_sqlite_and_go_write_is_read() {
            let expected = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
            for text in [
                "2023-11-14 22:13:20",
                "2023-11-14 22:13:20.000",
                "2023-11-14T22:13:20Z",
                "2023-11-14 22:13:20Z",
                "2023-11-14T22:13:20.000000",
                "2023-11-14 23:13:20+01:00",
                "2023-11-14T23:13:20+01:00",
                "2023-11-14 23:13:20.000000000+01:00",
                "2023-11-14 22:13:20 +0000 UTC",
                "2023-11-14 23:13:20 +0100 CET m=+0.012",
            ] {
                assert_eq!(parse(text), Some(expected), "{text}");
            }
            for text in ["", "yesterday", "1700000000"] {
                assert_eq!(parse(text), None, "{text}");
            }
        }
    }
}
