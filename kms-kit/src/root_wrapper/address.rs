//! The URL of a root wrapper, taken apart: place and parameters.

use kms_core::{Error, ErrorKind, Result};
use url::{Url, form_urlencoded};

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
        let mut query = url.query().unwrap_or_default().to_owned();
        if url.scheme() == "pkcs11" {
            // RFC 7512 means a plus sign by it, and not a space as forms do.
            query = query.replace('+', "%2B");
        }
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
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
