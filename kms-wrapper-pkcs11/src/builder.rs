//! What a wrapper over a token is made of.

use std::env::consts::{DLL_PREFIX, DLL_SUFFIX};
use std::path::PathBuf;
use std::sync::Arc;

use kms_core::service::misconfigured;
use kms_core::{Aead, CallLimits, Envelope, Result};

use crate::builder::environment::Environment;
use crate::pin::{Pin, PinSource};
use crate::sessions::Sessions;
use crate::target::{KeyName, Target, TokenName};
use crate::wrapper::Pkcs11Wrapper;
use crate::wrapper::mode::Pkcs11Mode;

mod environment;

/// Makes a [`Pkcs11Wrapper`]. Nothing is read or checked before [`build`](Self::build), and the module is not loaded
/// before the wrapper's first call.
///
/// The token is the one that fits all that is given of its label, serial number, manufacturer, model and slot; the
/// key the one on it that fits label and id.
///
/// # Environment variables
///
/// | variable | is |
/// |---|---|
/// | `PKCS11_WRAPPER_MODULE`, else `VAULT_HSM_LIB` | the module |
/// | `PKCS11_WRAPPER_TOKEN_LABEL`, else `VAULT_HSM_TOKEN_LABEL` | the token's label |
/// | `PKCS11_WRAPPER_KEY_LABEL`, else `VAULT_HSM_KEY_LABEL` | the key's label |
/// | `PKCS11_WRAPPER_KEY_ID`, else `VAULT_HSM_KEY_ID` | the key's id, in hex, with or without `0x` |
/// | `PKCS11_WRAPPER_PIN`, else `VAULT_HSM_PIN` | the PIN |
/// | `PKCS11_WRAPPER_PIN_FILE` | a file with the PIN |
///
/// The names that begin with `VAULT_HSM` are those of Vault's seal of the same kind. A variable that is set but empty
/// counts as not set. Explicit settings win: the token's label is taken from the environment if nothing is said of the
/// token, the key's name if nothing is said of the key, the PIN if none is given.
///
/// # Example
///
/// ```
/// use kms_core::Wrapper as _;
/// use kms_wrapper_pkcs11::Pkcs11Wrapper;
///
/// let wrapper = Pkcs11Wrapper::builder()
///     .module("/usr/lib/softhsm/libsofthsm2.so")
///     .token_label("production")
///     .key_label("root")
///     .pin("1234")
///     .build()?;
/// assert_eq!(wrapper.key_id(), None); // the token has not been asked yet
/// # Ok::<(), kms_core::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "nothing is made before `build`"]
pub struct Pkcs11WrapperBuilder {
    environment: Environment,
    module: Option<PathBuf>,
    token: TokenName,
    key: KeyName,
    pin: Option<Pin>,
    pin_file: Option<PathBuf>,
    mode: Pkcs11Mode,
    sessions: Option<usize>,
    limits: CallLimits,
    aead: Option<Arc<dyn Aead>>,
}

/// How many sessions if nobody says. Small tokens have sixteen, for all processes together.
const SESSIONS: usize = 4;

impl Pkcs11WrapperBuilder {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn from_env() -> Self {
        Self {
            environment: Environment::read(|name| std::env::var(name).ok()),
            ..Self::default()
        }
    }

    /// The module: the shared library that the token's maker gives, by its path. Code from it runs in this process.
    pub fn module(mut self, path: impl Into<PathBuf>) -> Self {
        self.module = Some(path.into());
        self
    }

    /// The module by its name alone, `softhsm2` say, which the system's loader finds (`libsofthsm2.so`).
    pub fn module_name(self, name: &str) -> Self {
        self.module(format!("{DLL_PREFIX}{name}{DLL_SUFFIX}"))
    }

    /// The token's label.
    pub fn token_label(mut self, label: impl Into<String>) -> Self {
        self.token.label = Some(label.into());
        self
    }

    /// The token's serial number.
    pub fn token_serial(mut self, serial: impl Into<String>) -> Self {
        self.token.serial = Some(serial.into());
        self
    }

    /// The token's manufacturer.
    pub fn token_manufacturer(mut self, manufacturer: impl Into<String>) -> Self {
        self.token.manufacturer = Some(manufacturer.into());
        self
    }

    /// The token's model.
    pub fn token_model(mut self, model: impl Into<String>) -> Self {
        self.token.model = Some(model.into());
        self
    }

    /// The slot that the token is in. Many modules number their slots anew at each start: prefer label and serial.
    pub fn slot_id(mut self, id: u64) -> Self {
        self.token.slot = Some(id);
        self
    }

    /// The key's label (`CKA_LABEL`).
    pub fn key_label(mut self, label: impl Into<String>) -> Self {
        self.key.label = Some(label.into());
        self
    }

    /// The key's id (`CKA_ID`).
    pub fn key_id(mut self, id: impl Into<Vec<u8>>) -> Self {
        self.key.id = Some(id.into());
        self
    }

    /// The user's PIN. The copies in this crate are wiped; the caller's is the caller's part.
    pub fn pin(mut self, pin: impl Into<String>) -> Self {
        self.pin = Some(Pin::new(pin));
        self
    }

    /// A file with the user's PIN, which is read anew for each login. A line break at its end is no part of the PIN.
    pub fn pin_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.pin_file = Some(path.into());
        self
    }

    /// How it encrypts; by default on the token.
    pub fn mode(mut self, mode: Pkcs11Mode) -> Self {
        self.mode = mode;
        self
    }

    /// How many sessions at most, each with a thread; 4 if not set. So many calls run at the same time.
    pub fn sessions(mut self, count: usize) -> Self {
        self.sessions = Some(count);
        self
    }

    /// How long and how often the token is asked. The time to connect means nothing here.
    pub fn limits(mut self, limits: CallLimits) -> Self {
        self.limits = limits;
        self
    }

    /// The provider of AES-256-GCM for envelopes. Required in [`Pkcs11Mode::Envelope`]; in direct mode, only blobs made
    /// in envelope mode need it.
    pub fn aead(mut self, aead: Arc<dyn Aead>) -> Self {
        self.aead = Some(aead);
        self
    }

    /// Checks the settings, without any I/O.
    ///
    /// # Errors
    ///
    /// [`InvalidConfiguration`](kms_core::ErrorKind::InvalidConfiguration): no module; a key without a name; an empty setting; a PIN and a file with
    /// one; no sessions; no `aead` for envelopes; limits of zero; an id in the environment that is not
    /// hex.
    pub fn build(self) -> Result<Pkcs11Wrapper> {
        self.try_build()
            .map_err(|error| error.with_operation("build pkcs11 wrapper"))
    }

    fn try_build(mut self) -> Result<Pkcs11Wrapper> {
        std::mem::take(&mut self.environment).fill_in(&mut self)?;
        self.limits.check()?;
        let module = self
            .module
            .ok_or_else(|| misconfigured("no module; name it, or set PKCS11_WRAPPER_MODULE"))?;
        if self.key.label.is_none() && self.key.id.is_none() {
            return Err(misconfigured(
                "no key; name its label or its id, or set PKCS11_WRAPPER_KEY_LABEL",
            ));
        }
        let texts = [
            &self.token.label,
            &self.token.serial,
            &self.token.manufacturer,
            &self.token.model,
            &self.key.label,
        ];
        let is_empty = texts.into_iter().flatten().any(String::is_empty)
            || self.key.id.as_ref().is_some_and(Vec::is_empty)
            || self.pin.as_ref().is_some_and(Pin::is_empty)
            || module.as_os_str().is_empty();
        if is_empty {
            return Err(misconfigured("a setting is empty"));
        }
        let pin = match (self.pin, self.pin_file) {
            (Some(_), Some(_)) => {
                return Err(misconfigured("a PIN and a file with one; give one of them"));
            }
            (Some(pin), None) => Some(PinSource::Text(pin)),
            (None, file) => file.map(PinSource::File),
        };
        let count = self.sessions.unwrap_or(SESSIONS);
        if count == 0 {
            return Err(misconfigured("no sessions; give at least 1"));
        }
        if self.mode == Pkcs11Mode::Envelope && self.aead.is_none() {
            return Err(misconfigured("no aead, which envelope mode needs"));
        }
        let target = Arc::new(Target::new(module, self.token, self.key, pin));
        let sessions = Sessions::new(Arc::clone(&target), count, self.limits)?;
        let envelope = self.aead.map(Envelope::new);
        Ok(Pkcs11Wrapper::new(target, sessions, self.mode, envelope))
    }
}
