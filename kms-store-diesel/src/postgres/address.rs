//! Connection strings: what is added to them, and how their secrets are kept out of messages.

use kms_core::{Error, ErrorKind, Result};

/// A libpq connection string. Never shown.
#[derive(Clone)]
pub(super) struct Address(String);

impl Address {
    /// Takes a URI (`postgres://…`, `postgresql://…`) or keywords (`host=… dbname=…`).
    pub(super) fn new(text: &str) -> Result<Self> {
        let uri = text.starts_with("postgres://") || text.starts_with("postgresql://");
        if text.contains('\0') || !(uri || text.contains('=') && !text.contains("://")) {
            return Err(Error::new(ErrorKind::InvalidConfiguration)
                .with_operation("PostgresRepository::builder")
                .with_detail(
                    "not a connection string; they look like postgres://user@host:5432/database, \
                     or host=… dbname=…",
                ));
        }
        Ok(Self(text.to_owned()))
    }

    /// The string with these parameters added where it doesn't set them itself.
    pub(super) fn with_defaults(&self, defaults: &[(&str, String)]) -> String {
        let mut text = self.0.clone();
        let uri = text.contains("://");
        for (name, value) in defaults {
            if self.sets(name) {
                continue;
            }
            let separator = match (uri, text.contains('?')) {
                (true, false) => '?',
                (true, true) => '&',
                (false, _) => ' ',
            };
            text.push(separator);
            text.push_str(name);
            text.push('=');
            text.push_str(value);
        }
        text
    }

    /// A message of libpq without what it may quote of the string: a password with a character that
    /// should have been escaped ends up where libpq expects a host, say.
    pub(super) fn redact(&self, message: &str) -> String {
        let secret = self.secret_part();
        if secret.is_empty() {
            return message.to_owned();
        }
        let mut shown = String::with_capacity(message.len());
        for (position, part) in message.split('"').enumerate() {
            let quoted = position % 2 == 1;
            if position > 0 {
                shown.push('"');
            }
            if quoted && !part.is_empty() && secret.contains(part) {
                shown.push_str("***");
            } else {
                shown.push_str(part);
            }
        }
        for piece in self.secrets() {
            shown = shown.replace(&piece, "***");
        }
        shown
    }

    fn sets(&self, name: &str) -> bool {
        self.0.match_indices(name).any(|(position, _)| {
            let before = self.0[..position].chars().next_back();
            let begins = before.is_none_or(|c| c.is_whitespace() || c == '?' || c == '&');
            // Keywords may have white space around the sign.
            begins
                && self.0[position + name.len()..]
                    .trim_start()
                    .starts_with('=')
        })
    }

    /// Everything that may be part of a password: in a URI what is between the user and the last `@`, and
    /// in both forms what follows `password`.
    fn secret_part(&self) -> String {
        let mut secret = String::new();
        if let Some((_, rest)) = self.0.split_once("://")
            && let Some((user_info, _)) = rest.rsplit_once('@')
            && let Some((_, password)) = user_info.split_once(':')
        {
            secret.push_str(password);
        }
        if let Some(position) = self.0.find("password") {
            secret.push(' ');
            secret.push_str(&self.0[position + "password".len()..]);
        }
        secret
    }

    /// The passwords as such, raw and decoded.
    fn secrets(&self) -> Vec<String> {
        let mut secrets = Vec::new();
        if let Some((_, rest)) = self.0.split_once("://")
            && let Some((user_info, _)) = rest.rsplit_once('@')
            && let Some((_, password)) = user_info.split_once(':')
        {
            secrets.push(password.to_owned());
            secrets.push(percent_decoded(password));
        }
        for (position, name) in self.0.match_indices("password") {
            let rest = &self.0[position + name.len()..];
            let value = rest
                .trim_start()
                .strip_prefix('=')
                .unwrap_or(rest)
                .trim_start();
            let value = match value.strip_prefix('\'') {
                Some(quoted) => quoted.split('\'').next().unwrap_or_default(),
                None => value.split(['&', ' ']).next().unwrap_or_default(),
            };
            secrets.push(value.to_owned());
            secrets.push(percent_decoded(value));
        }
        // Shorter ones would black out words that have nothing to do with them.
        secrets.retain(|secret| secret.len() > 2);
        secrets
    }
}

fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let decoded = (first == b'%')
            .then(|| tail.get(..2))
            .flatten()
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match decoded {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            None => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_string_does_not_set_is_added() {
        let defaults = [
            ("connect_timeout", "5".to_owned()),
            ("keepalives_idle", "30".to_owned()),
        ];
        for (given, expected) in [
            (
                "postgres://h/d",
                "postgres://h/d?connect_timeout=5&keepalives_idle=30",
            ),
            (
                "postgres://h/d?connect_timeout=1",
                "postgres://h/d?connect_timeout=1&keepalives_idle=30",
            ),
            ("host=h", "host=h connect_timeout=5 keepalives_idle=30"),
            (
                "host=h connect_timeout = 1",
                "host=h connect_timeout = 1 keepalives_idle=30",
            ),
        ] {
            assert_eq!(
                Address::new(given).unwrap().with_defaults(&defaults),
                expected
            );
        }
    }

    #[test]
    fn no_part_of_a_password_is_left_in_a_message() {
        for (address, message) in [
            ("postgres://u:hunter2@h/d", "failed for hunter2"),
            (
                "postgres://u:p@hunter2/w@h/d",
                "could not translate host name \"hunter2\" to address",
            ),
            (
                "postgres://u:hunter%zz@h/d",
                "invalid percent-encoded token: \"hunter%zz\"",
            ),
            (
                "postgres://h/d?password=hunter2&x=y",
                "invalid parameter \"hunter2\"",
            ),
            (
                "host=h password=two hunter2",
                "missing \"=\" after \"hunter2\" in connection info string",
            ),
            (
                "host=h password='hunter2",
                "unterminated quoted string \"hunter2\"",
            ),
        ] {
            let shown = Address::new(address).unwrap().redact(message);
            assert!(!shown.contains("hunter"), "{address}: {shown}");
        }
    }

    #[test]
    fn the_rest_of_a_message_stays() {
        let address = Address::new("postgres://user:hunter2@127.0.0.1:1/d").unwrap();
        let message = "connection to server at \"127.0.0.1\", port 1 failed: Connection refused";
        assert_eq!(address.redact(message), message);
    }

    #[test]
    fn what_is_no_connection_string_is_refused_without_repeating_it() {
        for bad in [
            "",
            "hunter2",
            "mysql://u:hunter2@h/d",
            "postgres:/u:hunter2@h",
        ] {
            let error = Address::new(bad).map(drop).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidConfiguration, "{bad:?}");
            assert!(!format!("{error} {error:?}").contains("hunter2"));
        }
    }
}
