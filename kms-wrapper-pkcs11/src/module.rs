//! The modules of this process: PKCS#11 has one state for each in a process, whoever uses it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error as TokenError, RvError};
use cryptoki::session::{Session, SessionState, UserType};
use cryptoki::slot::Slot;
use kms_core::{Error, ErrorKind, Result};

use crate::failure::explain;
use crate::pin::{Pin, PinSource};

/// Every module that a wrapper was made for. None is ever unloaded: other code of the process may use it too.
static MODULES: LazyLock<Mutex<HashMap<PathBuf, Arc<Module>>>> = LazyLock::new(Mutex::default);

/// The library of a maker of tokens.
#[derive(Default)]
pub(crate) struct Module {
    loaded: Mutex<Option<Pkcs11>>,
    /// By the token's serial number.
    logins: Mutex<HashMap<String, Arc<Logins>>>,
}

/// What is known of logging in to one token. Logins go one after the other.
#[derive(Default)]
pub(crate) struct Logins {
    refused: Mutex<Vec<Pin>>,
}

impl Module {
    pub(crate) fn of(path: &Path) -> Arc<Self> {
        let mut modules = locked(&MODULES);
        match modules.get(path) {
            Some(module) => Arc::clone(module),
            None => Arc::clone(modules.entry(path.to_owned()).or_default()),
        }
    }

    /// The module, loaded and initialized: also again, where somebody finalized it or this is a forked child.
    pub(crate) fn ready(&self, path: &Path) -> Result<Pkcs11> {
        let mut loaded = locked(&self.loaded);
        let module = match loaded.take() {
            Some(module) => module,
            None => Pkcs11::new(path)
                .map_err(|failure| explain(failure).with_context("module", path.display()))?,
        };
        let module = loaded.insert(module);
        match module.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
            Ok(()) | Err(TokenError::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => {
                Ok(module.clone())
            }
            Err(failure) => Err(explain(failure)),
        }
    }

    pub(crate) fn logins(&self, serial: &str) -> Arc<Logins> {
        Arc::clone(locked(&self.logins).entry(serial.to_owned()).or_default())
    }
}

impl Logins {
    /// Logs in, unless this process is already.
    ///
    /// A PIN that the token refused is not sent to it again: a few wrong ones lock a token. Neither is one sent while
    /// the token says that the next wrong one will.
    pub(crate) fn log_in(
        &self,
        module: &Pkcs11,
        slot: Slot,
        session: &Session,
        pin: Option<&PinSource>,
    ) -> Result<()> {
        let mut refused = locked(&self.refused);
        let state = session.get_session_info().map_err(explain)?.session_state();
        let token = module.get_token_info(slot).map_err(explain)?;
        if matches!(state, SessionState::RoUser | SessionState::RwUser) || !token.login_required() {
            return Ok(());
        }
        let pin = pin
            .ok_or_else(|| denied("the token wants a PIN, and none is configured"))?
            .read()?;
        if refused.contains(&pin) {
            return Err(denied(
                "the token refused this PIN before, and it is not sent again, since wrong ones lock a token; \
                 give the right one, or start again if the token's was changed to it",
            ));
        }
        if token.user_pin_final_try() {
            return Err(denied(
                "the next wrong PIN would lock the token, so none is sent; log in once by hand",
            ));
        }
        match session.login(UserType::User, Some(&pin.for_login())) {
            Ok(()) | Err(TokenError::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => {
                refused.clear();
                Ok(())
            }
            Err(failure) => {
                if is_wrong_pin(&failure) {
                    refused.push(pin);
                }
                Err(explain(failure))
            }
        }
    }
}

fn is_wrong_pin(failure: &TokenError) -> bool {
    use RvError::{PinIncorrect, PinInvalid, PinLenRange};
    matches!(
        failure,
        TokenError::Pkcs11(PinIncorrect | PinInvalid | PinLenRange, _)
    )
}

fn denied(detail: &'static str) -> Error {
    Error::new(ErrorKind::Denied).with_detail(detail)
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
