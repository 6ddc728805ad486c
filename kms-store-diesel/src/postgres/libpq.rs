//! What libpq knows and diesel does not ask it for: how it reads an address, and the SQLSTATE of a refused login.
//!
//! These are the only foreign calls of this crate. diesel returns a refused login as text in the server's language, and
//! libpq has no result that would hold the code. The safe bindings that there are (the crate `libpq`) bring a second
//! declaration of the library that diesel links, and cargo takes only one.
#![allow(unsafe_code, reason = "libpq is C, and no safe crate shares diesel's")]

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char};
use std::ptr::{self, NonNull};

use pq_sys::{
    ConnStatusType, PGVerbosity, PGconn, PQconnectStart, PQconnectionNeedsPassword, PQconninfoFree,
    PQconninfoParse, PQerrorMessage, PQfinish, PQfreemem, PQreset, PQsetErrorVerbosity, PQstatus,
};

/// The settings of an address, as libpq reads them; `None` if it is no address to it. Values that are not UTF-8 are
/// there in part.
pub(super) fn settings(address: &str) -> Option<BTreeMap<String, String>> {
    let address = CString::new(address).ok()?;
    let mut message: *mut c_char = ptr::null_mut();
    // SAFETY: the address ends with NUL and outlives the call; libpq writes a pointer, or null, to `message`.
    let first = unsafe { PQconninfoParse(address.as_ptr(), &raw mut message) };
    if !message.is_null() {
        // SAFETY: libpq allocated it, and nobody else has it. It may quote a password, and is not read.
        unsafe { PQfreemem(message.cast()) };
    }
    let first = NonNull::new(first)?;
    let mut settings = BTreeMap::new();
    let mut option = first.as_ptr();
    // SAFETY: libpq returns an array whose last element has no keyword; the texts of each end with NUL, and live
    // until the array is freed, which happens once, after the last look at it.
    unsafe {
        while let Some(keyword) = text(&(*option).keyword) {
            if let Some(value) = text(&(*option).val) {
                settings.insert(keyword, value);
            }
            option = option.add(1);
        }
        PQconninfoFree(first.as_ptr());
    }
    Some(settings)
}

/// A copy of a text of libpq's, if there is one.
///
/// # Safety
///
/// The pointer is null, or points to a text that ends with NUL.
unsafe fn text(text: &*mut c_char) -> Option<String> {
    // SAFETY: as the caller promises.
    (!text.is_null()).then(|| unsafe { CStr::from_ptr(*text).to_string_lossy().into_owned() })
}

/// Why a server does not let somebody in.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// The SQLSTATE of each answer: of several servers, or of one with TLS and without.
    pub(super) codes: Vec<String>,
    /// It asks for a password, and libpq has none.
    pub(super) needs_password: bool,
}

impl Refusal {
    /// Connects to this address, which was refused just now, once more to learn the reason. `None` if it succeeds.
    ///
    /// It takes as long as the address' `connect_timeout` at most.
    pub(super) fn of(address: &str) -> Option<Self> {
        let address = CString::new(address).ok()?;
        // SAFETY: the address ends with NUL and outlives the call.
        let attempt = Attempt(NonNull::new(unsafe { PQconnectStart(address.as_ptr()) })?);
        let connection = attempt.0.as_ptr();
        // SAFETY: the connection is valid until `attempt` is dropped, and no other thread has it. `PQreset` begins
        // anew, and waits: what can be set before the login is kept. The message ends with NUL, and is copied before
        // the next call.
        unsafe {
            // libpq then writes codes in the place of messages.
            PQsetErrorVerbosity(connection, PGVerbosity::PQERRORS_SQLSTATE);
            PQreset(connection);
            if PQstatus(connection) == ConnStatusType::CONNECTION_OK {
                return None;
            }
            Some(Self {
                codes: codes(&CStr::from_ptr(PQerrorMessage(connection)).to_string_lossy()),
                needs_password: PQconnectionNeedsPassword(connection) == 1,
            })
        }
    }

    /// Whether the role, the password or the database's name is at fault, or a right to connect is missing: class 28
    /// (invalid authorization), `invalid_catalog_name`, `insufficient_privilege`.
    pub(super) fn is_of_login(&self) -> bool {
        self.needs_password
            || self
                .codes
                .iter()
                .any(|code| code.starts_with("28") || matches!(code.as_str(), "3D000" | "42501"))
    }
}

/// A connection that is closed, whatever became of it.
struct Attempt(NonNull<PGconn>);

impl Drop for Attempt {
    fn drop(&mut self) {
        // SAFETY: it is not used after this.
        unsafe { PQfinish(self.0.as_ptr()) };
    }
}

/// The codes in a message of libpq's, which ends a line with one: `…: FATAL:  28P01`. What libpq says itself has none.
fn codes(message: &str) -> Vec<String> {
    message
        .lines()
        .filter_map(|line| line.rsplit_once(":  "))
        .map(|(_, code)| code.trim_end())
        .filter(|code| {
            let is_code = |byte: u8| byte.is_ascii_digit() || byte.is_ascii_uppercase();
            code.len() == 5 && code.bytes().all(is_code)
        })
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_codes_of_all_servers_are_found_in_any_language() {
        let message = "connection to server at \"a\", port 1 failed: Connection refused\n\
                       connection to server at \"b\" (::1), port 5432 failed: FATAL:  28P01\n\
                       connexion au serveur sur « b » : SCHWERWIEGEND:  28000\n";
        assert_eq!(codes(message), ["28P01", "28000"]);
        assert!(codes("fe_sendauth: no password supplied").is_empty());
    }

    #[test]
    fn a_busy_or_starting_server_refuses_nobodys_login() {
        for (code, of_login) in [
            ("28P01", true),
            ("28000", true),
            ("3D000", true),
            ("42501", true),
            ("53300", false),
            ("57P03", false),
        ] {
            let refusal = Refusal {
                codes: vec![code.to_owned()],
                needs_password: false,
            };
            assert_eq!(refusal.is_of_login(), of_login, "{code}");
        }
    }
}
