//! Why TLS refused a connection, told by its own codes.

use std::error::Error as StdError;
use std::io;

use kms_core::{Error, ErrorKind};
use rustls::{AlertDescription, CertificateError};

/// In the context `certificate`: the client's own.
pub(super) const OURS: &str = "client";
const THEIRS: &str = "server";

/// The failure of TLS behind that of a request.
pub(super) fn failure(error: &reqwest::Error) -> Option<&rustls::Error> {
    let mut cause: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        // What an `io::Error` wraps is not its source.
        let wrapped = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref);
        cause = match wrapped {
            Some(wrapped) => Some(wrapped),
            None => error.source(),
        };
    }
    None
}

/// An error, if it was over a certificate.
pub(super) fn explain(failure: &rustls::Error) -> Option<Error> {
    use AlertDescription as Alert;
    let expired =
        |whose| Some(Error::new(ErrorKind::CertificateExpired).with_context("certificate", whose));
    let refused = || {
        Some(
            Error::new(ErrorKind::Unreachable)
                .with_detail("the TLS handshake failed over a certificate; the cause says which"),
        )
    };
    match failure {
        rustls::Error::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        ) => expired(THEIRS),
        rustls::Error::AlertReceived(Alert::CertificateExpired) => expired(OURS),
        rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented => refused(),
        rustls::Error::AlertReceived(
            Alert::NoCertificate
            | Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateUnknown
            | Alert::UnknownCA
            | Alert::AccessDenied
            | Alert::CertificateUnobtainable
            | Alert::CertificateRequired,
        ) => refused(),
        _ => None,
    }
}
