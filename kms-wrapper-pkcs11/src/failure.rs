//! What the codes of PKCS#11 mean.

use std::error::Error as StdError;
use std::fmt::{self, Write as _};

use cryptoki::context::Function;
use cryptoki::error::{Error as TokenError, RvError};
use kms_core::{Error, ErrorKind};

/// What the token's module answered: the [`source`](StdError::source) of errors whose cause it told.
#[derive(Clone, Copy, Debug)]
pub struct ServiceError {
    function: Function,
    code: RvError,
}

impl ServiceError {
    /// The code, by its name in PKCS#11: `CKR_PIN_LOCKED` say.
    #[must_use]
    pub fn code(&self) -> String {
        match self.code {
            RvError::VendorDefined(code) | RvError::UnknownErrorCode(code) => format!("{code:#x}"),
            known => {
                let mut name = "CKR".to_owned();
                for letter in format!("{known:?}").chars() {
                    if letter.is_ascii_uppercase() {
                        name.push('_');
                    }
                    name.push(letter.to_ascii_uppercase());
                }
                name
            }
        }
    }

    /// The function that was called: `C_Login` say.
    #[must_use]
    pub fn function(&self) -> String {
        format!("C_{:?}", self.function)
    }
}

impl fmt::Display for ServiceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.function())?;
        f.write_char(' ')?;
        f.write_str(&self.code())
    }
}

impl StdError for ServiceError {}

/// Turns a failure of the module into ours.
pub(crate) fn explain(failure: TokenError) -> Error {
    match failure {
        TokenError::Pkcs11(code, function) => {
            let kind = kind(code);
            if kind == ErrorKind::AuthenticationFailed {
                return Error::new(kind);
            }
            Error::new(kind).with_source(ServiceError { function, code })
        }
        TokenError::LibraryLoading(_)
        | TokenError::MissingSymbol(_)
        | TokenError::NullFunctionPointer => Error::new(ErrorKind::InvalidConfiguration)
            .with_detail("the module can't be loaded, or lacks a function of PKCS#11")
            .with_source(failure),
        _ => Error::new(ErrorKind::DamagedResponse).with_source(failure),
    }
}

/// Whether an answer to a decryption may be about the blob or about the token: some tokens give these codes for a
/// tag that is wrong, where the standard has `CKR_ENCRYPTED_DATA_INVALID`.
pub(crate) fn is_vague(failure: &TokenError) -> bool {
    matches!(
        failure,
        TokenError::Pkcs11(
            RvError::GeneralError
                | RvError::FunctionFailed
                | RvError::DeviceError
                | RvError::DataInvalid
                | RvError::DataLenRange
                | RvError::ArgumentsBad
                | RvError::VendorDefined(_),
            Function::Decrypt | Function::UnwrapKey
        )
    )
}

fn kind(code: RvError) -> ErrorKind {
    match code {
        RvError::DeviceRemoved
        | RvError::TokenNotPresent
        | RvError::TokenNotRecognized
        | RvError::SlotIdInvalid
        | RvError::DeviceError
        | RvError::GeneralError
        | RvError::FunctionFailed
        | RvError::FunctionCanceled
        | RvError::FipsSelfTestFailed
        | RvError::CryptokiNotInitialized
        | RvError::SessionClosed
        | RvError::SessionHandleInvalid => ErrorKind::Unreachable,
        // Other processes, or other threads of this one, have what there is of them.
        RvError::SessionCount | RvError::DeviceMemory => ErrorKind::Throttled,
        RvError::PinIncorrect
        | RvError::PinInvalid
        | RvError::PinLenRange
        | RvError::PinExpired
        | RvError::PinLocked
        | RvError::UserPinNotInitialized
        | RvError::UserNotLoggedIn
        | RvError::UserAnotherAlreadyLoggedIn
        | RvError::UserTooManyTypes
        | RvError::UserTypeInvalid
        | RvError::SessionReadWriteSoExists
        | RvError::ActionProhibited
        | RvError::FunctionRejected => ErrorKind::Denied,
        RvError::KeyHandleInvalid
        | RvError::ObjectHandleInvalid
        | RvError::WrappingKeyHandleInvalid
        | RvError::UnwrappingKeyHandleInvalid => ErrorKind::UnknownRootKey,
        RvError::KeyFunctionNotPermitted
        | RvError::KeyTypeInconsistent
        | RvError::KeySizeRange
        | RvError::KeyNotWrappable
        | RvError::KeyUnextractable
        | RvError::WrappingKeySizeRange
        | RvError::WrappingKeyTypeInconsistent
        | RvError::UnwrappingKeySizeRange
        | RvError::UnwrappingKeyTypeInconsistent
        | RvError::MechanismInvalid
        | RvError::MechanismParamInvalid
        | RvError::FunctionNotSupported
        | RvError::TemplateIncomplete
        | RvError::TemplateInconsistent
        | RvError::AttributeValueInvalid
        | RvError::AttributeTypeInvalid
        | RvError::AttributeReadOnly
        | RvError::AttributeSensitive
        | RvError::TokenWriteProtected
        | RvError::SessionReadOnly => ErrorKind::UnsuitableRootKey,
        RvError::EncryptedDataInvalid
        | RvError::EncryptedDataLenRange
        | RvError::WrappedKeyInvalid
        | RvError::WrappedKeyLenRange
        // `CKR_AEAD_DECRYPT_FAILED` of version 3, which `cryptoki` has no name for.
        | RvError::UnknownErrorCode(0x42) => ErrorKind::AuthenticationFailed,
        RvError::DataInvalid | RvError::DataLenRange => ErrorKind::InvalidBlob,
        RvError::CantLock | RvError::NeedToCreateThreads | RvError::LibraryLoadFailed => {
            ErrorKind::InvalidConfiguration
        }
        _ => ErrorKind::Internal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(code: RvError) -> Error {
        explain(TokenError::Pkcs11(code, Function::Login))
    }

    #[test]
    fn each_code_has_one_kind() {
        use ErrorKind::*;
        for (code, kind) in [
            (RvError::DeviceRemoved, Unreachable),
            (RvError::TokenNotPresent, Unreachable),
            (RvError::SessionHandleInvalid, Unreachable),
            (RvError::GeneralError, Unreachable),
            (RvError::SessionCount, Throttled),
            (RvError::PinIncorrect, Denied),
            (RvError::PinLocked, Denied),
            (RvError::PinExpired, Denied),
            (RvError::UserNotLoggedIn, Denied),
            (RvError::ObjectHandleInvalid, UnknownRootKey),
            (RvError::KeyFunctionNotPermitted, UnsuitableRootKey),
            (RvError::MechanismInvalid, UnsuitableRootKey),
            (RvError::EncryptedDataInvalid, AuthenticationFailed),
            (RvError::WrappedKeyInvalid, AuthenticationFailed),
            (RvError::UnknownErrorCode(0x42), AuthenticationFailed),
            (RvError::DataLenRange, InvalidBlob),
            (RvError::CantLock, InvalidConfiguration),
            (RvError::VendorDefined(0x8000_0001), Internal),
            (RvError::UnknownErrorCode(0x999), Internal),
        ] {
            assert_eq!(error(code).kind(), kind, "{code:?}");
        }
    }

    #[test]
    fn the_source_names_function_and_code_as_the_standard_does() {
        let source = |code| error(code).source().unwrap().to_string();
        assert_eq!(source(RvError::PinLocked), "C_Login CKR_PIN_LOCKED");
        assert_eq!(
            source(RvError::VendorDefined(0x8000_0001)),
            "C_Login 0x80000001"
        );
    }

    #[test]
    fn a_failed_authentication_says_nothing_more() {
        assert!(error(RvError::EncryptedDataInvalid).source().is_none());
    }
}
