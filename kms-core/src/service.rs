//! What root wrappers of services do alike, for those of this system and for an application's own.
//!
//! | a wrapper | takes |
//! |---|---|
//! | checks the URL of its service | [`Endpoint`], [`PlainHttp`] |
//! | goes through a proxy | [`ProxyUrl`] |
//! | keeps a client for each runtime | [`PerRuntime`] |
//! | asks within bounds | [`CallLimits`](crate::CallLimits) |
//! | encrypts in envelopes, or directly | [`Sealing`], [`Mode`], with its calls as a [`ServiceKey`] |
//! | finds out whether it can work | [`Sealing::preflight`] |
//! | repeats what the service says | [`one_line`], [`without_secrets`] |
//! | refuses | [`misconfigured`], [`damaged`], [`invalid_blob`] |
//!
//! Nothing here knows HTTP or TLS: the clients are the wrapper's.
//!
//! ```
//! use kms_core::service::{Endpoint, PlainHttp, one_line};
//!
//! assert!(Endpoint::parse("https://kms.example.com/v1/", PlainHttp::OnLoopback).is_ok());
//! assert!(Endpoint::parse("http://kms.example.com", PlainHttp::OnLoopback).is_err());
//! assert_eq!(one_line("no such key\r\n"), "no such key");
//! ```

use std::borrow::Cow;

use crate::error::{Error, ErrorKind};

mod clients;
mod endpoint;
mod proxy;
mod sealing;
mod text;

pub use clients::PerRuntime;
pub use endpoint::{Endpoint, PlainHttp};
pub use proxy::ProxyUrl;
pub use sealing::{
    BOUND_ENVELOPE_MECHANISM, DIRECT_MECHANISM, Encrypted, Mode, Sealing, ServiceKey,
};
pub use text::{one_line, without_secrets};

/// Settings that can't work: [`ErrorKind::InvalidConfiguration`].
#[must_use]
pub fn misconfigured(detail: impl Into<Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidConfiguration).with_detail(detail)
}

/// An answer that is not used: [`ErrorKind::DamagedResponse`].
#[must_use]
pub fn damaged(detail: impl Into<Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::DamagedResponse).with_detail(detail)
}

/// A blob that the wrapper can't have made, or a plaintext that it can't take: [`ErrorKind::InvalidBlob`].
#[must_use]
pub fn invalid_blob(detail: impl Into<Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidBlob).with_detail(detail)
}
