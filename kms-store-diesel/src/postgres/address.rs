//! Connection strings: what is added to them, and how their secrets are kept out of messages.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use kms_core::{Error, ErrorKind, Result};

use super::libpq;

/// A libpq connection string, as it was given. Never shown.
#[derive(Clone)]
pub(super) struct Address {
    text: String,
    /// What libpq reads in it.
    settings: BTreeMap<String, String>,
}

impl Address {
    /// Takes whatever libpq takes, but for a blank text.
    pub(super) fn new(text: &str) -> Result<Self> {
        let settings = (!text.trim().is_empty()).then(|| libpq::settings(text));
        let settings = settings.flatten().ok_or_else(|| {
            // libpq would quote what may be a password.
            invalid(
                "not a connection string; they look like postgres://user@host:5432/database, or \
                 host=… dbname=…",
            )
        })?;
        Ok(Self {
            text: text.to_owned(),
            settings,
        })
    }

    pub(super) fn sets(&self, name: &str) -> bool {
        self.settings.contains_key(name)
    }

    /// Which servers it asks for: its `target_session_attrs`, or that of the environment.
    pub(super) fn target(&self) -> Option<String> {
        let given = self.settings.get("target_session_attrs").cloned();
        given.or_else(|| std::env::var("PGTARGETSESSIONATTRS").ok())
    }

    /// The string with these settings added where it has none of them. It stays as it is, and libpq is asked which way
    /// of adding to it adds these and changes nothing else: no rules of strings are repeated here.
    pub(super) fn with_defaults(&self, defaults: &[(&str, &str)]) -> Result<String> {
        let added = defaults.iter().filter(|(name, _)| !self.sets(name));
        let (mut parameters, mut keywords) = (String::new(), String::new());
        let mut expected = self.settings.clone();
        for (name, value) in added {
            let separator = if parameters.is_empty() { "" } else { "&" };
            // Writing to a string does not fail.
            let _ = write!(parameters, "{separator}{name}={}", percent_encoded(value));
            let quoted = value.replace('\\', "\\\\").replace('\'', "\\'");
            let _ = write!(keywords, "{name}='{quoted}' ");
            expected.insert((*name).to_owned(), (*value).to_owned());
        }
        let text = &self.text;
        [
            format!("{keywords}{text}"),
            format!("{text}?{parameters}"),
            format!("{text}&{parameters}"),
            format!("{text}{parameters}"),
        ]
        .into_iter()
        .find(|candidate| libpq::settings(candidate).as_ref() == Some(&expected))
        .ok_or_else(|| invalid("the connection string leaves no way to add settings to it"))
    }

    /// A message of libpq without what it may quote of the string: a password with a character that
    /// should have been escaped ends up where libpq expects a host, say.
    /// The second is a password that it does not hold.
    pub(super) fn redact(&self, message: &str, password: Option<&str>) -> String {
        let secret = self.secret_part();
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
        let others = password.map(str::to_owned);
        for piece in self.secrets().into_iter().chain(others) {
            // Shorter ones would black out words that have nothing to do with them.
            if piece.len() > 2 {
                shown = shown.replace(&piece, "***");
            }
        }
        shown
    }

    /// Everything that may be part of a password: in a URI what is between the user and the last `@`, and
    /// in both forms what follows `password`.
    fn secret_part(&self) -> String {
        let mut secret = String::new();
        if let Some((_, rest)) = self.text.split_once("://")
            && let Some((user_info, _)) = rest.rsplit_once('@')
            && let Some((_, password)) = user_info.split_once(':')
        {
            secret.push_str(password);
        }
        if let Some(position) = self.text.find("password") {
            secret.push(' ');
            secret.push_str(&self.text[position + "password".len()..]);
        }
        secret
    }

    /// The passwords as such, raw and decoded.
    fn secrets(&self) -> Vec<String> {
        let mut secrets = Vec::new();
        if let Some((_, rest)) = self.text.split_once("://")
            && let Some((user_info, _)) = rest.rsplit_once('@')
            && let Some((_, password)) = user_info.split_once(':')
        {
            secrets.push(password.to_owned());
        }
        for (position, name) in self.text.match_indices("password") {
            let rest = &self.text[position + name.len()..];
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
        }
        let read = ["password", "sslpassword", "oauth_client_secret"];
        secrets.extend(
            read.iter()
                .filter_map(|name| self.settings.get(*name).cloned()),
        );
        secrets
    }
}

fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() {
            encoded.push(char::from(byte));
        } else {
            // Writing to a string does not fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

fn invalid(detail: &'static str) -> Error {
    Error::new(ErrorKind::InvalidConfiguration)
        .with_operation("PostgresRepository::builder")
        .with_detail(detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_string_does_not_set_is_added_and_nothing_else_changes() {
        let defaults = [
            ("connect_timeout", "5"),
            ("application_name", r"it's \ a&b"),
        ];
        for (given, sets) in [
            ("postgres://h/d", None),
            ("postgresql://h/d", None),
            ("postgres://h/d?", None),
            ("postgres://h/d?sslmode=require&", None),
            ("postgres://h/d?connect_timeout=1", Some("1")),
            ("postgres://u:se?cret@h/d", None),
            ("postgres://u:se?cret@h/d?connect_timeout=1", Some("1")),
            ("postgres://u:p%E9@[::1]:5433,b/d", None),
            ("postgres://", None),
            ("host=h", None),
            ("host=h connect_timeout = 1", Some("1")),
            ("host=h password=a://b?connect_timeout=2", None),
            ("host=h password='connect_timeout=1'", None),
            (r"host=h password=ends_with\", None),
        ] {
            let before = libpq::settings(given).unwrap();
            let whole = Address::new(given).unwrap().with_defaults(&defaults);
            let mut after = libpq::settings(&whole.unwrap()).unwrap();
            let timeout = after.remove("connect_timeout");
            assert_eq!(timeout.as_deref(), Some(sets.unwrap_or("5")), "{given}");
            let name = after.remove("application_name");
            assert_eq!(name.as_deref(), Some(defaults[1].1), "{given}");
            let mut expected = before;
            expected.remove("connect_timeout");
            assert_eq!(after, expected, "{given}");
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
            // Some of them are such as libpq refuses.
            let address = Address {
                text: address.to_owned(),
                settings: libpq::settings(address).unwrap_or_default(),
            };
            let shown = address.redact(message, None);
            assert!(!shown.contains("hunter"), "{message}: {shown}");
        }
    }

    #[test]
    fn the_rest_of_a_message_stays() {
        let address = Address::new("postgres://user:hunter2@127.0.0.1:1/d").unwrap();
        let message = "connection to server at \"127.0.0.1\", port 1 failed: Connection refused";
        assert_eq!(address.redact(message, None), message);
        let message = "could not send hunter3";
        assert_eq!(
            address.redact(message, Some("hunter3")),
            "could not send ***"
        );
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
