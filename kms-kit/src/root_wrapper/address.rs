//! The URL of a root wrapper, taken apart: place and parameters.

use std::str::FromStr;
use std::time::Duration;

use kms_core::{CallLimits, Error, ErrorKind, Result};
use url::Url;

/// A URL whose parameters are taken one by one; what nobody takes is refused at the end.
///
/// No error shows a value: somebody may have put a secret where none belongs.
pub(super) struct Address {
    url: Url,
    parameters: Vec<(String, String)>,
}

impl Address {
    pub(super) fn parse(text: &str) -> Result<Self> {
        let url = Url::parse(text).map_err(|source| {
            misconfigured("the root wrapper's URL can't be read").with_source(source)
        })?;
        if url.password().is_some() || !url.username().is_empty() {
            return Err(misconfigured(
                "a root wrapper's URL holds no credentials; they come from the environment",
            ));
        }
        // Dot segments and the like: a key name must be written as the service knows it.
        if url.as_str() != text || url.fragment().is_some() {
            return Err(misconfigured(
                "the root wrapper's URL is not in its plain form: no `.` or `..` segments, no spaces, no `#`",
            ));
        }
        let mut parameters: Vec<(String, String)> = Vec::new();
        for (name, value) in url.query_pairs() {
            if parameters.iter().any(|(known, _)| *known == name) {
                return Err(
                    misconfigured("a parameter of the root wrapper's URL is given twice")
                        .with_context("parameter", name),
                );
            }
            parameters.push((name.into_owned(), value.into_owned()));
        }
        Ok(Self { url, parameters })
    }

    pub(super) fn scheme(&self) -> &str {
        self.url.scheme()
    }

    pub(super) fn url(&self) -> &Url {
        &self.url
    }

    /// Takes a parameter, so that [`finish`](Self::finish) does not refuse it.
    pub(super) fn take(&mut self, name: &str) -> Option<String> {
        let position = self
            .parameters
            .iter()
            .position(|(known, _)| known == name)?;
        Some(self.parameters.swap_remove(position).1)
    }

    /// Takes a parameter that is one of these words.
    #[cfg(any(feature = "aws", feature = "gcp"))]
    pub(super) fn take_word<T: Copy>(
        &mut self,
        name: &'static str,
        words: &[(&'static str, T)],
    ) -> Result<Option<T>> {
        let Some(value) = self.take(name) else {
            return Ok(None);
        };
        match words.iter().find(|(word, _)| *word == value) {
            Some((_, meaning)) => Ok(Some(*meaning)),
            None => {
                let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
                Err(
                    misconfigured(format!("must be one of {}", known.join(", ")))
                        .with_context("parameter", name),
                )
            }
        }
    }

    /// Takes `attempts`, `attempt_timeout_ms`, `connect_timeout_ms` and `deadline_ms`.
    pub(super) fn take_limits(&mut self) -> Result<CallLimits> {
        let mut limits = CallLimits::default();
        if let Some(attempts) = self.take_number::<u32>("attempts")? {
            limits = limits.with_attempts(attempts);
        }
        if let Some(timeout) = self.take_number("attempt_timeout_ms")? {
            limits = limits.with_attempt_timeout(Duration::from_millis(timeout));
        }
        if let Some(timeout) = self.take_number("connect_timeout_ms")? {
            limits = limits.with_connect_timeout(Duration::from_millis(timeout));
        }
        if let Some(deadline) = self.take_number("deadline_ms")? {
            limits = limits.with_deadline(Duration::from_millis(deadline));
        }
        Ok(limits)
    }

    fn take_number<T: FromStr>(&mut self, name: &'static str) -> Result<Option<T>> {
        let number = self.take(name).map(|value| value.parse());
        number.transpose().map_err(|_| {
            misconfigured("not a whole number in its range").with_context("parameter", name)
        })
    }

    /// Refuses what nobody took.
    pub(super) fn finish(self) -> Result<()> {
        match self.parameters.into_iter().next() {
            None => Ok(()),
            Some((name, _)) => Err(misconfigured(format!(
                "no such parameter of a `{}` URL",
                self.url.scheme()
            ))
            .with_context("parameter", name)),
        }
    }
}

pub(super) fn misconfigured(detail: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidConfiguration).with_detail(detail)
}
